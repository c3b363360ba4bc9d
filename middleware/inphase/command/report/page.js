"use strict";
// draws one cycle: a bar for each phase and each sample, from the moments of its frame
const told = JSON.parse(document.getElementById("moments").textContent);
const bytes = Uint8Array.from(atob(told.data), (one) => one.charCodeAt(0));
const numbers = new Float64Array(bytes.buffer);
const width = told.columns.length;
const byId = (name) => document.getElementById(name);
const at = (row, name) => numbers[row * width + told.columns.indexOf(name)];
const cycles = Array.from({ length: told.rows }, (_, row) => at(row, "cycle"));
const causes = new Map(told.worst);
const ranked = told.worst.map(([cycle]) => cycle).filter((cycle) => cycles.includes(cycle));
let shown = 0;

function time(ns) {
  for (const [size, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]])
    if (Math.abs(ns) >= size) return `${+(ns / size).toPrecision(4)} ${unit}`;
  return `${ns} ns`;
}

// a moment of a cycle: samples may be older than it
const moment = (ns) => (ns < 0 ? `${time(-ns)} before this cycle` : time(ns));

function element(kind, className, parent, text) {
  const made = document.createElement(kind);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}

// the phases of a cycle, and the samples of its frame: name, bars, words, colour
function lines(row) {
  const get = (name) => at(row, name);
  const deadline = told.deadline ?? NaN;
  const known = (ns) => (Number.isNaN(ns) ? "not known" : time(ns));
  const found = [
    ["wake", [[0, get("woke")]], `woke ${known(get("woke"))} after its time` +
      (get("skipped") ? `; grid points left out just before: ${get("skipped")}` : ""), "#d1495b"],
    ["read", [[get("woke"), get("latched")]],
      `latched at ${known(get("latched"))}` +
      (get("latched") > deadline ? `, ${time(get("latched") - deadline)} after the deadline` : ""),
      "#1b6ca8"],
  ];
  for (const [name, device] of told.sensors) {
    const status = told.statuses[get(`${name}.status`)] ?? "unknown";
    const trigger = get(`${name}.triggered`), received = get(`${name}.received`);
    const acquired = get(`${name}.acquired`);
    const from = Number.isNaN(trigger) ? acquired : trigger;
    const taken = received - trigger;
    const words = Number.isNaN(received) ? status
      : `${status}, received: ${moment(received)}` +
        (Number.isNaN(taken) ? "" : `, ${time(taken)} after its trigger`) +
        (Number.isNaN(acquired) ? ", acquired: not known" : `, acquired: ${moment(acquired)}`);
    const title = device ? `${name} (${device})` : name;
    found.push([title, [[from, received]], words, told.colours[status] ?? "#999"]);
  }
  found.push(["policy", [[get("latched"), get("posted")]],
    Number.isNaN(get("posted")) ? "no command that the next frame tells of"
      : `command posted at ${time(get("posted"))}`, "#7b4ea3"]);
  found.push(["act", [[told.act ?? get("acted"), get("acted")]],
    Number.isNaN(get("acted")) ? "no act that the next frame tells of"
      : `written by ${time(get("acted"))}`, "#3a7d44"]);
  return found;
}

function draw() {
  const place = byId("waterfall");
  place.replaceChildren();
  if (!told.rows) return;
  const found = lines(shown);
  // a sample of an earlier cycle begins left of 0; the axis holds all that is within ten cycles
  const ends = found.flatMap(([, bars]) => bars.flat()).filter((ns) => Math.abs(ns) < 10 * told.period);
  const first = Math.min(0, ...ends), last = Math.max(told.period, ...ends);
  const share = (ns) => (100 * (ns - first)) / (last - first);
  for (const [name, bars, words, colour] of found) {
    const line = element("div", "row", place);
    element("span", "", line, name).title = words;
    const track = element("div", "track", line);
    for (const limit of [0, told.deadline, told.act, told.period])
      if (limit !== null) element("div", "limit", track).style.left = `${share(limit)}%`;
    for (const [from, to] of bars) {
      if (Number.isNaN(from) || Number.isNaN(to)) continue;
      const bar = element("div", "bar", track);
      bar.style.left = `${Math.max(0, share(from))}%`;
      bar.style.width = `${Math.max(0, Math.min(100, share(to)) - Math.max(0, share(from)))}%`;
      bar.style.background = colour;
      bar.title = words;
    }
    const right = bars.map(([, to]) => share(to)).find((to) => to > 60);
    const text = element("div", "text", track, words);
    if (right === undefined) text.style.left = `${Math.max(0, ...bars.map(([, to]) => share(to) || 0)) + 1}%`;
    else text.style.left = "2px";
    element("small", "words", line, words);
  }
  const line = element("div", "row", place);
  element("span", "", line, "");
  const axis = element("div", "axis", line);
  const ticks = [[0, "0"], [told.deadline, "deadline"], [told.act, "act"], [told.period, time(told.period)]];
  const room = 6000 / Math.max(200, axis.clientWidth);
  let right = -Infinity;
  for (const [ns, words] of ticks) {
    if (ns === null || share(ns) - right < room) continue;
    right = Math.min(97, share(ns));
    element("span", "", axis, words).style.left = `${right}%`;
  }
  tell();
}

function tell() {
  const flags = told.flags.filter((_, bit) => (at(shown, "flags") >> bit) & 1);
  const reason = at(shown, "reason");
  const words = [`cycle ${cycles[shown]}: ${told.states[at(shown, "state")] ?? "unknown state"}`];
  if (reason) words.push(`because of ${told.reasons[reason] ?? reason}`);
  if (flags.length) words.push(flags.join(" "));
  const cause = causes.get(cycles[shown]);
  byId("told").textContent = words.join(", ") + (cause ? `. ${cause}` : ".");
  byId("cycle").value = cycles[shown];
}

function show(row) {
  shown = Math.max(0, Math.min(told.rows - 1, row));
  draw();
}

// the row of a cycle, or of the next one that the page has
function rowOf(cycle) {
  const row = cycles.findIndex((one) => one >= cycle);
  return row < 0 ? told.rows - 1 : row;
}

function rank(step) {
  if (!ranked.length) return;
  const now = ranked.indexOf(cycles[shown]);
  const next = now < 0 ? 0 : Math.max(0, Math.min(ranked.length - 1, now + step));
  show(rowOf(ranked[next]));
}

byId("before").onclick = () => show(shown - 1);
byId("after").onclick = () => show(shown + 1);
byId("worse").onclick = () => rank(-1);
byId("better").onclick = () => rank(1);
byId("cycle").onchange = () => show(rowOf(Number(byId("cycle").value)));
for (const button of document.querySelectorAll("button.cycle"))
  button.onclick = () => {
    show(rowOf(Number(button.dataset.cycle)));
    byId("waterfall").scrollIntoView({ block: "center" });
  };
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT") return;
  if (event.key === "ArrowLeft") show(shown - 1);
  if (event.key === "ArrowRight") show(shown + 1);
});
// report.html#4711 opens at that cycle
function follow() {
  const cycle = parseInt(location.hash.slice(1), 10);
  if (Number.isFinite(cycle)) show(rowOf(cycle));
  else show(ranked.length ? rowOf(ranked[0]) : 0);
}
window.addEventListener("hashchange", follow);
follow();
