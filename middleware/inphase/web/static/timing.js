// How late cycles woke, when frames were complete, and when commands were there: of all cycles of
// the last seconds, also of those between the frames that the page is sent.

import { element, show, time, write } from "./format.js";

const WINDOW_MS = 10_000;
const NAMES = {
  wake: "late to wake",
  latch: "due to frame complete",
  command: "frame to command",
};

export class Timing {
  constructor() {
    this.past = [];
    this.parts = null;
  }

  counted({ edges_us, bins }) {
    const now = performance.now();
    this.past.push({ now, bins });
    while (this.past.length > 2 && now - this.past[1].now > WINDOW_MS) this.past.shift();
    this.parts ??= this.make(edges_us);
    for (const name of Object.keys(NAMES)) {
      const before = this.past[0].bins[name];
      this.draw(this.parts[name], bins[name].map((one, index) => Math.max(0, one - before[index])), edges_us);
    }
  }

  make(edges_us) {
    const parts = {};
    const rows = Object.entries(NAMES).map(([name, text]) => {
      const said = element("span");
      const bars = [...edges_us, 0].map(() => element("i"));
      parts[name] = { said, bars, row: null };
      const marks = [1, 10, 100, 1000, 1e4, 1e5].map((us) => element("span", time(us).replace(/\.0+ /, " ")));
      const row = element("div.histogram", element("div.caption", element("span", text), said),
        element("div.bars", ...bars), element("div.scale", ...marks));
      parts[name].row = row;
      return row;
    });
    document.getElementById("histograms").replaceChildren(...rows);
    show("panel-timing");
    return parts;
  }

  // bars as high as the logarithm of their counts, so that one cycle of many is seen
  draw({ said, bars, row }, counts, edges_us) {
    const all = counts.reduce((sum, one) => sum + one, 0);
    row.hidden = all === 0 && said.textContent === "";
    const top = Math.log1p(Math.max(...counts, 1));
    bars.forEach((bar, index) => {
      bar.style.height = `${(100 * Math.log1p(counts[index])) / top}%`;
      const low = index ? time(edges_us[index - 1]) : "0";
      bar.title = `${counts[index]} of ${all}: from ${low}${index < edges_us.length ? ` to ${time(edges_us[index])}` : ""}`;
    });
    const below = (share) => {
      let sum = 0;
      const found = counts.findIndex((one) => (sum += one) >= share * all);
      return found < edges_us.length ? `< ${time(edges_us[found])}` : `> ${time(edges_us.at(-1))}`;
    };
    if (all) write(said, `half ${below(0.5)}, 99 % ${below(0.99)}, all ${below(1)}`);
  }
}
