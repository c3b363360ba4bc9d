// A row per sensor: status, age, reason, and how many samples were fresh.

import { element, show, time, write } from "./format.js";

const COLOURS = { FRESH: "good", HELD: "good", LATE: "doubt", RECOVERING: "doubt" };
const HEADS = ["sensor", "status", "age", "fresh", "reason"];

export class Sensors {
  constructor(description) {
    this.meanings = description.meanings;
    this.cells = description.sensors.map(() =>
      Object.fromEntries(HEADS.map((name) => [name, element(name === "age" || name === "fresh" ? "td.number" : "td")])));
    const rows = this.cells.map((cells, index) => {
      cells.sensor.append(description.sensors[index].name);
      return element("tr", ...Object.values(cells));
    });
    const heads = HEADS.map((name) => element(name === "age" || name === "fresh" ? "th.number" : "th", name));
    document.getElementById("sensors").replaceChildren(element("tr", ...heads), ...rows);
    show("panel-sensors");
  }

  frame(frame) {
    frame.sensors.forEach(({ status, reason, detail, age_us }, index) => {
      const cells = this.cells[index];
      write(cells.status, status);
      cells.status.className = COLOURS[status] ?? "bad";
      cells.status.title = (this.meanings.status[status] ?? [""])[0];
      write(cells.age, time(age_us));
      write(cells.reason, reason === "none" ? "" : `${reason} ${detail}`);
      cells.reason.title = (this.meanings.reason[reason] ?? [""])[0];
    });
  }

  counted({ statuses }) {
    statuses.forEach((of, index) => {
      const all = Object.values(of).reduce((sum, one) => sum + one, 0);
      const good = of.FRESH + of.HELD;
      write(this.cells[index].fresh, all ? `${((100 * good) / all).toFixed(good === all ? 0 : 2)} %` : "–");
    });
  }
}
