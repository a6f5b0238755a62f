// A real Chromium, without a window. It comes inside of an npm package, with the libraries that it
// needs.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(new URL("../serving/web/package.json", import.meta.url));

/** What `use` returns, given a browser that is closed behind it. */
export async function withBrowser(use) {
  const unpacked = await mkdtemp(join(tmpdir(), "chromium-"));
  const fonts = join(unpacked, "fonts.conf");
  const folders = [`<dir>${unpacked}/fonts</dir>`, "<dir>/usr/share/fonts</dir>"];
  folders.push('<dir prefix="xdg">fonts</dir>', `<cachedir>${unpacked}/cache</cachedir>`);
  await writeFile(fonts, `<fontconfig>${folders.join("")}</fontconfig>`);
  Object.assign(process.env, { TMPDIR: unpacked, FONTCONFIG_FILE: fonts });
  process.env.AWS_EXECUTION_ENV = "22.x"; // where there are no system's libraries: its own
  const { default: packed } = await import(require.resolve("@sparticuz/chromium"));
  packed.setGraphicsMode = false;
  const { chromium } = require("playwright-core");
  const args = ["--no-sandbox", "--no-zygote", "--disable-gpu", "--font-render-hinting=none"];
  let browser;
  try {
    browser = await chromium.launch({ executablePath: await packed.executablePath(), args });
    return await use(browser);
  } finally {
    await browser?.close();
    await rm(unpacked, { recursive: true, force: true });
  }
}
