// The service's panels: lease, queue, calendar, jobs, recordings. Each is there when its data is.

import { element, show } from "./format.js";

const EVERY_MS = 2000;
const TITLES = { lease: "Lease", queue: "Queue", calendar: "Calendar", jobs: "Jobs", recordings: "Recordings" };

export class Service {
  constructor() {
    this.into = document.getElementById("service");
    this.look();
    this.who();
  }

  // who is signed in; on the robot's host nobody has to be
  async who() {
    const answer = await fetch("/api/who").catch(() => null);
    if (answer?.status !== 200) return;
    const { user } = await answer.json();
    const leave = element("button", "Sign out");
    leave.type = "button";
    leave.addEventListener("click", async () => {
      const gone = await fetch("/api/sign-out", { method: "POST" }).catch(() => null);
      if (gone?.ok) location.replace("/sign-in#ended");
    });
    document.getElementById("user").replaceChildren(`Signed in as ${user} `, leave);
    show("user");
  }

  async look() {
    try {
      const answer = await fetch("/api/service");
      if (answer.status === 204) return; // no service runs this robot
      if (answer.ok) this.show(await answer.json());
    } catch {
      // the link says it
    }
    setTimeout(() => this.look(), EVERY_MS);
  }

  show(data) {
    const panels = Object.entries(TITLES)
      .filter(([name]) => data[name] && Object.keys(data[name]).length)
      .map(([name, title]) => {
        const made = element("section", element("h2", title), element("div.scroll", table(data[name])));
        made.id = `panel-${name}`;
        return made;
      });
    this.into.replaceChildren(...panels);
  }
}

function table(data) {
  if (!Array.isArray(data))
    return element("table", ...Object.entries(data).map(([name, value]) => element("tr", element("th", name), element("td", text(value)))));
  const names = Object.keys(data[0]).filter((name) => name !== "href");
  const rows = data.map((row) => element("tr", ...names.map((name, index) => element("td", index ? text(row[name]) : first(row, name)))));
  return element("table", element("tr", ...names.map((name) => element("th", name))), ...rows);
}

// a link leads to this host alone
function first(row, name) {
  if (!row.href?.startsWith("/") || row.href.startsWith("//")) return text(row[name]);
  const link = element("a", text(row[name]));
  link.href = row.href;
  link.target = "_blank"; // the stop button stays
  return link;
}

function text(value) {
  return value === null || value === undefined ? "" : String(value);
}
