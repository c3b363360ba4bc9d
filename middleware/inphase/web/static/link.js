// The connection to the robot's host: one WebSocket, which is made again when it is gone.

const AGAIN_MS = 1000;
const SILENT_MS = 3000;

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
    const socket = new WebSocket(`ws://${location.host}/api/live`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      this.heard = performance.now();
      this.tell("");
      this.take(typeof data === "string" ? JSON.parse(data) : data);
    };
    socket.onclose = ({ reason }) => {
      this.tell(reason || "No connection to the robot: the run has ended, or the network is gone.");
      setTimeout(() => this.connect(), AGAIN_MS);
    };
    this.socket = socket;
  }

  look() {
    const isOpen = this.socket.readyState === WebSocket.OPEN;
    if (isOpen && performance.now() - this.heard > SILENT_MS)
      this.tell("Nothing comes from the robot; what is shown is old.");
  }
}
