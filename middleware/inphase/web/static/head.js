// The head: robot, state in words, and the figures of the cycle.

import { count, element, show, write } from "./format.js";

const COLOURS = {
  running: "good", armed: "good", opened: "doubt", configured: "doubt", stopped: "doubt",
  ramping: "bad", faulted: "bad", uncontrolled: "bad",
};
const FIGURES = { rate: "cycles/s", late: "late", skipped: "skipped", missed: "missed", cycle: "cycle" };

export class Head {
  constructor(description) {
    this.meanings = description.meanings;
    this.state = document.getElementById("state");
    write(document.getElementById("robot"), description.robot);
    document.title = `${description.robot} · inphase`;
    this.values = {};
    const rows = Object.entries(FIGURES).map(([key, name]) => {
      this.values[key] = element("dd", "–");
      return element("div", element("dt", name), this.values[key]);
    });
    document.getElementById("figures").replaceChildren(...rows);
    this.counts = null;
  }

  frame(frame) {
    write(this.state, frame.state);
    this.state.className = `pill ${COLOURS[frame.state] ?? "doubt"}`;
    write(this.values.cycle, count(frame.cycle));
    const latched = frame.flags.includes("LATCHED");
    const [meaning, instead] = this.words("state", frame.state);
    const [cause, remedy] = this.words("reason", frame.reason);
    const hasReason = latched || frame.reason !== "none";
    const begin = latched ? "Motion is latched" : "The reason";
    const todo = hasReason ? remedy : instead;
    put("meaning", capital(`${meaning}.`));
    put("why", hasReason ? `${begin}: ${cause} (${frame.reason} ${frame.detail}).` : "");
    put("remedy", todo ? `To do: ${todo}.` : "");
    put("drive", driver(frame));
    put("flags", frame.flags.length ? `Flags: ${frame.flags.join(" ")}` : "");
    show("panel-why");
  }

  counted(counts) {
    const { rate_hz } = counts;
    write(this.values.rate, rate_hz === null ? "–" : rate_hz.toFixed(rate_hz < 100 ? 1 : 0));
    write(this.values.late, count(counts.overruns));
    write(this.values.skipped, count(counts.skipped));
    write(this.values.missed, count(counts.counts.missed));
  }

  words(kind, name) {
    const [meaning, remedy] = this.meanings[kind][name] ?? [name, ""];
    return [meaning.split("; detail:")[0], remedy];
  }
}

function put(id, text) {
  write(document.getElementById(id), text);
  show(id, text !== "");
}

const DRIVERS = { nobody: "nobody", policy: "its policy", client: "a client", person: "a person" };

function driver({ lease, drove, episode: [episode, outcome] }) {
  const by = `Driven by ${DRIVERS[drove] ?? drove}${lease ? `, under lease ${lease}` : ""}.`;
  return episode ? `${by} Episode ${episode}: ${outcome}.` : by;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
