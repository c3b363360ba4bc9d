// Numbers and elements.

export function time(us) {
  if (us === null || us === undefined) return "–";
  if (Math.abs(us) < 1000) return `${us.toFixed(us < 10 ? 1 : 0)} µs`;
  if (Math.abs(us) < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 2 : 1)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

export function count(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f");
}

// name may have classes: "td.number"; what follows is text or elements
export function element(name, ...content) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  made.className = classes.join(" ");
  made.append(...content);
  return made;
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function show(id, isShown = true) {
  document.getElementById(id).hidden = !isShown;
}

// writes only what has changed: the browser then has less to do
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
