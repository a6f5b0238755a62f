// Starts the three sections, each by itself: one that has no model says so, the others answer.

import { startForecast } from "./forecast.js";
import { startLanguage } from "./language.js";
import { startReview } from "./review.js";
import { startSection } from "./section.js";
import { startTagger } from "./tagger.js";

startLanguage();
const starts = { tagger: startTagger, review: startReview, forecast: startForecast };
for (const [id, start] of Object.entries(starts)) {
  startSection(document.getElementById(id), start);
}
// Without it, the page answers only while it is served.
navigator.serviceWorker?.register("offline.js", { updateViaCache: "none" }).catch(console.error);
