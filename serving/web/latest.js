// Only the newest input is worth an answer: while one is worked on, the last that comes waits.

/** `work(input, outdated)`, in which `outdated()` says whether a newer input is waiting. */
export function latest(work) {
  let next = [];
  let busy = false;
  return async (input) => {
    next = [input];
    if (busy) return;
    busy = true;
    try {
      while (next.length) {
        const [now] = next.splice(0);
        await work(now, () => next.length > 0);
      }
    } finally {
      busy = false;
    }
  };
}
