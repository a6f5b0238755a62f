// Keeps what the page is made of, for when its server can't be reached; else the server's counts.

importScripts("files.js"); // FILES, by build.py

const KEPT = "page";
const OURS = new Set(["./", ...FILES].map((file) => new URL(file, self.location).href));

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(leaveTheRest()));
self.addEventListener("fetch", (event) => {
  // Other pages may be served at this address, another day.
  if (event.request.method !== "GET" || !OURS.has(event.request.url)) return;
  event.respondWith(newestOrKept(event));
});

async function keepAll() {
  const asked = [...OURS].map((url) => new Request(url, { cache: "no-cache" }));
  await (await caches.open(KEPT)).addAll(asked);
}

async function leaveTheRest() {
  const cache = await caches.open(KEPT);
  const rest = (await cache.keys()).filter(({ url }) => !OURS.has(url));
  await Promise.all(rest.map((request) => cache.delete(request)));
  await self.clients.claim();
}

async function newestOrKept(event) {
  const cache = await caches.open(KEPT);
  try {
    const answer = await fetch(event.request, { cache: "no-cache" }); // asks what has changed
    if (answer.status === 200) event.waitUntil(cache.put(event.request, answer.clone()).catch(() => {}));
    return answer;
  } catch (error) {
    const kept = await cache.match(event.request);
    if (kept) return kept;
    throw error;
  }
}
