// Plots of the last seconds: an actuator's channel as it was requested, applied and measured, and
// the numbers of each sensor's field.

import uPlot from "./vendor/uplot.min.js";
import { colour, element } from "./format.js";

const SECONDS = 20;
const POINTS = 30 * SECONDS;
const HEIGHT = 190;
const DRAW_MS = 66;
const HUES = [210, 25, 140, 285, 0, 50, 180, 320];

// numbers over time, the newest POINTS of them
class Series {
  constructor(names) {
    this.columns = [[], ...names.map(() => [])];
  }

  add(t, values) {
    const [times] = this.columns;
    if (times.length && t <= times[times.length - 1]) return;
    this.columns.forEach((column, index) => {
      column.push(index ? values[index - 1] ?? null : t);
      if (column.length > POINTS) column.shift();
    });
  }
}

class Plot {
  // colours: of each name, a CSS colour
  constructor(into, names, colours) {
    this.series = new Series(names);
    this.isSeen = true;
    this.last = 0;
    const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    this.plot = new uPlot({
      width: into.clientWidth || 320,
      height: HEIGHT,
      pxAlign: 0,
      cursor: { drag: { x: false, y: false } },
      legend: { live: false },
      scales: { x: { time: false } },
      axes: [{ ...axis, size: 26, splits: () => this.splits(), values: (_, ticks) => ticks.map((tick) => `${Math.round(tick - this.last)} s`) }, { ...axis, size: 56, values: numbers }],
      series: [{}, ...names.map((name, index) => ({ label: name, stroke: colours[index], width: 1.6, points: { show: false } }))],
    }, this.series.columns, into);
    new ResizeObserver(() => this.plot.setSize({ width: into.clientWidth, height: HEIGHT })).observe(into);
    new IntersectionObserver(([entry]) => (this.isSeen = entry.isIntersecting)).observe(into);
  }

  add(t, values) {
    this.series.add(t, values);
  }

  draw() {
    if (!this.isSeen || document.hidden) return;
    this.last = this.series.columns[0].at(-1) ?? this.last;
    this.plot.batch(() => {
      this.plot.setData(this.series.columns, false);
      this.plot.setScale("x", { min: this.last - SECONDS, max: this.last });
    });
  }

  // ticks stand still: they count back from now
  splits() {
    return [0, 1, 2, 3, 4].map((quarter) => this.last - SECONDS + (quarter * SECONDS) / 4);
  }

  clear() {
    for (const column of this.series.columns) column.length = 0;
  }
}

// ticks with as many digits as tell one from the next
function numbers(_plot, ticks, _axis, _space, step) {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return ticks.map((tick) => (digits > 5 ? tick.toExponential(1) : tick.toFixed(digits)));
}

function hues(count) {
  return Array.from({ length: count }, (_, index) => `hsl(${HUES[index % HUES.length]} 70% 52%)`);
}

function panel(title) {
  const body = element("div");
  const made = element("section", element("h2", title), body);
  return [made, body];
}

class ActuatorPlot {
  constructor(description, actuator, index, into) {
    this.index = index;
    this.channel = 0;
    const { name, channels, unit, feedback } = actuator;
    this.measured = feedback ? placeOf(description, feedback) : null;
    const [section, body] = panel(`${name} [${unit}]`);
    section.dataset.actuator = name;
    into.append(section);
    if (channels > 1) {
      this.chips = Array.from({ length: channels }, (_, channel) => {
        const chip = element("button", String(channel));
        chip.type = "button";
        chip.title = `channel ${channel}`;
        chip.addEventListener("click", () => this.choose(channel));
        return chip;
      });
      body.before(element("div.chips", ...this.chips));
    }
    const kinds = this.measured ? ["requested", "applied", "measured"] : ["requested", "applied"];
    this.plot = new Plot(body, kinds, kinds.map(colour));
    this.choose(0);
  }

  choose(channel) {
    this.channel = channel;
    this.plot.clear();
    this.chips?.forEach((chip, index) => chip.setAttribute("aria-pressed", String(index === channel)));
  }

  frame(t, frame) {
    const { requested, applied } = frame.acts[this.index];
    const values = [requested[this.channel], applied[this.channel]];
    if (this.measured) {
      const [sensor, field] = this.measured;
      values.push(measured(frame.sensors[sensor])?.[field][this.channel] ?? null);
    }
    this.plot.add(t, values);
  }
}

class FieldPlot {
  constructor(sensor, field, place, into) {
    this.place = place;
    const [section, body] = panel(`${sensor.name}.${field.name} [${field.unit}]`);
    section.dataset.field = `${sensor.name}.${field.name}`;
    into.append(section);
    const names = Array.from({ length: field.count }, (_, index) => String(index));
    this.plot = new Plot(body, names, hues(field.count));
  }

  frame(t, frame) {
    const [sensor, field] = this.place;
    this.plot.add(t, measured(frame.sensors[sensor])?.[field] ?? []);
  }
}

// the values of a sample that may be shown as those of now: else there is a gap
function measured({ status, values }) {
  return status === "FRESH" || status === "HELD" ? values : null;
}

// sensor and field, by number, of a name such as joints.position
function placeOf(description, feedback) {
  const [name, fieldName] = feedback.split(".");
  const sensor = description.sensors.findIndex((one) => one.name === name);
  const field = description.sensors[sensor]?.fields.findIndex((one) => one.name === fieldName) ?? -1;
  return field < 0 ? null : [sensor, field];
}

export class Plots {
  constructor(description) {
    const into = document.getElementById("plots");
    into.replaceChildren();
    this.all = description.actuators.map((one, index) => new ActuatorPlot(description, one, index, into));
    description.sensors.forEach((sensor, index) =>
      sensor.fields.forEach((field, place) => this.all.push(new FieldPlot(sensor, field, [index, place], into))));
    this.start = null;
    this.drawn = 0;
  }

  frame(frame) {
    this.start ??= frame.t_s;
    for (const one of this.all) one.frame(frame.t_s - this.start, frame);
    const now = performance.now();
    if (now - this.drawn < DRAW_MS) return;
    this.drawn = now;
    for (const one of this.all) one.plot.draw();
  }
}
