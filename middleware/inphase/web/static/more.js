// The panels beside the first look: what they need is loaded after the stop button and the state.

import { Cameras } from "./cameras.js";
import { Plots } from "./plots.js";
import { Timing } from "./timing.js";

export function more(description) {
  return { cameras: new Cameras(description), plots: new Plots(description), timing: new Timing() };
}

// before the page's own style, which changes it
export function loadStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = "vendor/uplot.min.css";
  const loaded = new Promise((resolve) => (link.onload = link.onerror = resolve));
  document.querySelector('link[href="page.css"]').before(link);
  return loaded;
}
