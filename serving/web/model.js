// A model and what about.json says of it, run by onnxruntime in this page.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";
import { Problem } from "./language.js";

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.logLevel = "error";

/** {about, run}; `run` takes {input: [type, numbers, shape]}, and returns {output: tensor}. */
export async function load(name) {
  const folder = new URL(`models/${name}/`, import.meta.url);
  try {
    const about = await fetched(new URL("about.json", folder), "json");
    const bytes = await fetched(new URL(about.file, folder), "arrayBuffer");
    const session = await ort.InferenceSession.create(new Uint8Array(bytes), { logSeverityLevel: 3 });
    const run = (inputs) => {
      const tensor = ([type, numbers, shape]) => new ort.Tensor(type, numbers, shape);
      const given = Object.entries(inputs).map(([input, x]) => [input, tensor(x)]);
      return inTurn(() => session.run(Object.fromEntries(given)));
    };
    return { about, run };
  } catch (error) {
    console.error(error);
    throw new Problem("noModel", error.message);
  }
}

let before = Promise.resolve();

/** Sessions share one stack, and would overwrite each other's outputs if they ran at once. */
function inTurn(work) {
  const done = before.then(work);
  before = done.catch(() => {});
  return done;
}

async function fetched(url, how) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname}: ${answer.status} ${answer.statusText}`);
  return answer[how]();
}

export function softmax(scores) {
  const highest = Math.max(...scores);
  const each = Array.from(scores, (score) => Math.exp(score - highest));
  const sum = each.reduce((a, b) => a + b);
  return each.map((x) => x / sum);
}
