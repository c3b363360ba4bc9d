// The emergency stop: a request of its own, which does not wait behind frames.

import { write } from "./format.js";

const WAIT_MS = 2000;

export function arm(button, tell) {
  button.addEventListener("click", async () => {
    write(button, "Stopping …");
    try {
      const signal = AbortSignal.timeout(WAIT_MS);
      const answer = await fetch("/api/stop", { method: "POST", signal });
      if (!answer.ok) throw new Error(await answer.text());
      write(button, "Stop sent");
      tell("");
    } catch (error) {
      tell(`The stop did not reach the robot (${error.message}). Use the hardware stop.`);
      write(button, "Stop failed");
    }
    setTimeout(() => write(button, "Stop"), WAIT_MS);
  });
}
