// Keeps what the page is made of, for when its server can't be reached; else the server's counts.

const KEPT = "page";

self.addEventListener("install", (event) => event.waitUntil(keepAll()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(newestOrKept(event.request));
});

async function keepAll() {
  const files = await (await fetch("files.json")).json();
  await (await caches.open(KEPT)).addAll(["./", ...files]);
}

async function newestOrKept(request) {
  const cache = await caches.open(KEPT);
  try {
    const answer = await fetch(request, { cache: "no-cache" }); // asks what has changed
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}
