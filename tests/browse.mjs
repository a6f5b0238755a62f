// A real Chromium, without a window, on the page that serving/web/build.py made.
//
//     node tests/browse.mjs URL < inputs.json                # types, and prints what it reads
//     node tests/browse.mjs URL docs/pictures/web.png        # takes the picture of the README
//
import { withBrowser } from "./chromium.mjs";

async function opened(browser, url, options = {}, without = null) {
  const context = await browser.newContext({ locale: "en-US", ...options });
  if (without) await context.route(without, (route) => route.fulfill({ status: 404 }));
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const said = [];
  page.on("console", (one) => one.type() === "error" && said.push(one.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) {
      said.push(`asked elsewhere: ${request.url()}`);
    }
  });
  await page.goto(url);
  await answered(page);
  return { page, context, said };
}

const answered = (page) =>
  page.waitForFunction(() => !document.querySelector('[aria-busy="true"]'));

/** The visible text of the first that there is, or null. */
async function told(page, what) {
  const found = page.locator(what).first();
  return (await found.isVisible()) ? (await found.innerText()).trim() : null;
}

async function fill(page, what, text) {
  await page.locator(what).fill(text);
  await answered(page);
}

async function tagger(page) {
  const words = page.locator("#tagger ol.words button");
  const found = [];
  for (const word of await words.all()) {
    await word.hover();
    const odds = page.locator("#odds > div");
    found.push({
      word: await word.locator(".text").textContent(),
      tag: await word.locator(".tag").innerText(),
      odds: await odds.evaluateAll((rows) =>
        rows.map((row) => [row.children[0].textContent, Number(row.querySelector("data").value)]),
      ),
    });
  }
  return found;
}

async function review(page) {
  const verdict = page.locator("#review .verdict");
  return {
    label: await verdict.getAttribute("data-label"),
    positive: Number(await verdict.locator("data").getAttribute("value")),
    words: await page.locator("#review p.words .word").evaluateAll((all) =>
      all.map((one) => one.firstChild.textContent),
    ),
  };
}

async function forecast(page) {
  return {
    problem: await told(page, "#forecast .problem"),
    numbers: await page.locator("#forecast .numbers").inputValue(),
    picture: await page.locator("#forecast .chart svg").getAttribute("aria-label"),
  };
}

async function readAll(browser, url, inputs) {
  const { page, context, said } = await opened(browser, url);
  const found = { said, first: { tagger: await tagger(page), forecast: await forecast(page) } };

  found.sentences = [];
  for (const sentence of inputs.sentences) {
    await fill(page, "#sentence", sentence);
    found.sentences.push(await tagger(page));
  }

  // As one types: key by key, scored whenever a piece is there.
  found.pieces = [];
  await fill(page, "#text", "");
  for (const piece of inputs.pieces) {
    await page.locator("#text").pressSequentially(piece);
    await answered(page);
    found.pieces.push(await review(page));
  }
  found.texts = [];
  for (const text of inputs.texts) {
    await fill(page, "#text", text);
    found.texts.push(await review(page));
  }

  found.series = [];
  for (const csv of inputs.series) {
    await fill(page, "#csv", csv);
    found.series.push(await forecast(page));
  }
  await page.locator('button[data-language="zh"]').click();
  found.chinese = {
    title: await page.title(),
    language: await page.locator("html").getAttribute("lang"),
    problem: await told(page, "#forecast .problem"),
  };

  // By keys alone: from the field to the words, and along them.
  await fill(page, "#sentence", "I saw a saw.");
  await page.locator("#sentence").focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowRight");
  found.keys = {
    word: await page.evaluate(() => document.activeElement.querySelector(".text").textContent),
    odds: await page.locator("#odds").isVisible(),
    described: await page.evaluate(() => document.activeElement.getAttribute("aria-describedby")),
  };

  // Without its server.
  await page.evaluate(() => navigator.serviceWorker.ready);
  await context.setOffline(true);
  await page.reload();
  await answered(page);
  found.offline = { tagger: await tagger(page), title: await page.title() };

  // In a browser that asks for Chinese, and with a model missing.
  const other = await opened(browser, url, { locale: "zh-CN" }, "**/models/review/**");
  found.missing = {
    problem: await told(other.page, "#review .problem"),
    answer: await told(other.page, "#review .answer"),
    tagger: await tagger(other.page),
  };
  return found;
}

/** Of the tagger and the review, or with LOOK, options of the browser's, of the whole page. */
async function takePicture(browser, url, path) {
  const size = { viewport: { width: 900, height: 900 }, deviceScaleFactor: 1.5 };
  const look = process.env.LOOK && JSON.parse(process.env.LOOK);
  const { page } = await opened(browser, url, { ...size, ...look });
  await page.locator("#tagger ol.words li:nth-child(4) button").hover();
  const { y, height } = await page.locator("#review").boundingBox();
  const clip = look ? undefined : { x: 0, y: 0, width: 900, height: y + height + 32 };
  await page.screenshot({ path, clip, fullPage: true });
}

const [url, picture] = process.argv.slice(2);
await withBrowser(async (browser) => {
  if (picture) return takePicture(browser, url, picture);
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const found = await readAll(browser, url, JSON.parse(Buffer.concat(chunks)));
  console.log(JSON.stringify(found));
});
