// Signs a browser in by the word behind the # of a link, which is for one use: after a press, so
// that nothing that only looks at links uses it up.

const word = location.hash.slice(1);
const said = document.getElementById("said");
const enter = document.getElementById("enter");

history.replaceState(null, "", location.pathname); // the word stays in no history

async function signIn() {
  enter.disabled = true;
  try {
    const answer = await fetch("/api/sign-in", { method: "POST", headers: { "X-Inphase-Link": word } });
    if (answer.ok) return location.replace("/");
    said.textContent = await answer.text();
    enter.hidden = true;
  } catch (error) {
    said.textContent = `The robot's page did not answer (${error.message}). Try again.`;
    enter.disabled = false;
  }
}

if (word === "ended") {
  said.textContent = "You are signed out: the session has ended, or the key was revoked.";
} else if (word) {
  said.textContent = "This link signs this browser in at the robot's page, where you can stop it.";
  enter.hidden = false;
  enter.addEventListener("click", signIn);
}
