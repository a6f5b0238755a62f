// Times a model in a real Chromium, by onnxruntime-web, in one thread as on the page.
//
//     node benchmarks/browser.mjs URL model.onnx "[1, 100, 128]" 100
//
// URL is of a folder with the model and onnxruntime-web. Prints JSON.

import { withBrowser } from "../tests/chromium.mjs";

async function timed({ model, shape, requests }) {
  const ort = await import("/ort.wasm.bundle.min.mjs");
  ort.env.wasm.numThreads = 1;
  const begun = performance.now();
  const session = await ort.InferenceSession.create(`/${model}`, { logSeverityLevel: 3 });
  const loaded = performance.now();
  const size = shape.reduce((a, b) => a * b);
  const numbers = Float32Array.from({ length: size }, () => 2 * Math.random() - 1);
  const given = { [session.inputNames[0]]: new ort.Tensor("float32", numbers, shape) };
  const times = [];
  for (let k = 0; k <= requests; k++) {
    const before = performance.now();
    await session.run(given);
    times.push(performance.now() - before);
  }
  const [first, ...later] = times;
  later.sort((a, b) => a - b);
  const at = (share) => later[Math.min(later.length - 1, Math.floor(share * later.length))];
  return { "load s": (loaded - begun) / 1e3, "first ms": first, "p50 ms": at(0.5), "p99 ms": at(0.99) };
}

const [url, model, shape, requests] = process.argv.slice(2);
await withBrowser(async (browser) => {
  const page = await browser.newPage();
  await page.goto(`${url}/index.html`);
  const given = { model, shape: JSON.parse(shape), requests: Number(requests) };
  console.log(JSON.stringify(await page.evaluate(timed, given)));
});
