// The connection to the robot's host: one WebSocket, which is made again when it is gone.

const AGAIN_MS = 1000;
const SILENT_MS = 3000;
const SIGNED_OUT = 4401; // the code of a session that has ended

export class Link {
  // take: is given each message, parsed, or an ArrayBuffer. tell: why nothing comes, or ""
  constructor(take, tell) {
    this.take = take;
    this.tell = tell;
    this.heard = performance.now();
    this.connect();
    setInterval(() => this.look(), 500);
  }

  connect() {
    const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/api/live`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      this.heard = performance.now();
      this.tell("");
      this.take(typeof data === "string" ? JSON.parse(data) : data);
    };
    socket.onclose = ({ code, reason }) => {
      if (code === SIGNED_OUT) return location.replace("/sign-in#ended");
      this.tell(reason || "No connection to the robot: the run has ended, or the network is gone.");
      setTimeout(() => this.again(), AGAIN_MS);
    };
    this.socket = socket;
  }

  // a page that was closed while nobody heard of it may want a new sign-in: no message says that
  async again() {
    const answer = await fetch("/api/who").catch(() => null);
    if (answer?.status === 401) location.replace("/sign-in#ended");
    else this.connect();
  }

  look() {
    const isOpen = this.socket.readyState === WebSocket.OPEN;
    if (isOpen && performance.now() - this.heard > SILENT_MS)
      this.tell("Nothing comes from the robot; what is shown is old.");
  }
}
