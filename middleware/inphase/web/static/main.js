// The page: each message of the link goes to the panels that show it.

import { show, write } from "./format.js";
import { Head } from "./head.js";
import { Link } from "./link.js";
import { Sensors } from "./sensors.js";
import { arm } from "./stop.js";

const SERVICE_MS = 1000;

const notice = document.getElementById("notice");
const told = {};
let panels = null;
let described = null;
let parts = null; // the module of what comes after the first look

// who: one of the page's parts, whose last words stay until it takes them back with ""
function tell(who, text) {
  told[who] = text;
  const all = Object.values(told).filter((one) => one !== "").join(" ");
  write(notice, all);
  show("notice", all !== "");
}

function begin(description) {
  described = description;
  panels?.robot?.close();
  panels = {
    head: new Head(description),
    sensors: new Sensors(description),
    cameras: null,
    plots: null,
    timing: null,
    robot: null,
    isCompleted: false,
  };
  show("panel-robot", false);
}

// the first look is there: now the rest
async function complete(mine) {
  mine.isCompleted = true;
  if (!parts) {
    const module = await import("./more.js");
    await module.loadStyle();
    parts = module;
  }
  if (mine !== panels) return;
  Object.assign(mine, parts.more(described));
  if (described.model) draw(mine);
}

// the largest part of the page comes last
async function draw(mine) {
  const [{ Robot }, answer] = await Promise.all([import("./robot.js"), fetch("/api/model")]);
  if (answer.status !== 200) return; // it cannot be had here: the run says why
  const buffer = await answer.arrayBuffer();
  if (mine === panels) mine.robot = new Robot(buffer, described.model);
}

function take(message) {
  if (message instanceof ArrayBuffer) {
    panels?.cameras?.take(message);
  } else if (message.kind === "description") {
    begin(message);
  } else if (panels && message.kind === "frame") {
    for (const one of [panels.head, panels.sensors, panels.plots, panels.robot]) one?.frame(message);
    if (!document.documentElement.dataset.live) {
      document.documentElement.dataset.live = "yes";
      performance.mark("interactive");
    }
    if (!panels.isCompleted) complete(panels);
  } else if (panels && message.kind === "counts") {
    for (const one of [panels.head, panels.sensors, panels.timing]) one?.counted(message);
  }
}

arm(document.getElementById("stop"), (text) => tell("stop", text));
new Link(take, (text) => tell("link", text));
setTimeout(async () => new (await import("./service.js")).Service(), SERVICE_MS);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => described && begin(described));
