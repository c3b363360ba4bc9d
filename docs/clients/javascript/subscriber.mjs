// Follows a robot over ZeroMQ: middleware/inphase/WIRE.md is the page, this is all of it.
//
//   npm install
//   node subscriber.mjs tcp://127.0.0.1:5570 --count 10
//   node subscriber.mjs ipc:///tmp/inphase-demo/frames --control ipc:///tmp/inphase-demo/control
//
// --json      a JSON object per frame, as `inphase echo --json` prints it
// --count N   end after N frames; else at the robot's end
// --control   ask the robot for its description first, and for its counts at the end
// --estop     with --control: after the frames, the emergency stop
//
// Stamps have 64 bits and stay BigInt: a Number holds only 53 of them.

import { parseArgs } from "node:util";

import { Decoder, encode } from "@msgpack/msgpack";
import { Request, Subscriber } from "zeromq";

const WIRE = 5;
const ABSENT = -0x7fffffffffffffffn; // a time or an age that is not known
const TOPICS = {
  description: Buffer.from("inphase.description\0"),
  frame: Buffer.from("inphase.frame\0"),
  end: Buffer.from("inphase.end\0"),
};
const TIMEOUT_MS = 30_000;
const ANSWER_MS = 10_000;
const decoder = new Decoder({ useBigInt64: true });
const decode = (bytes) => decoder.decode(bytes);

// ---- numbers ----------------------------------------------------------------------------------

/** The name of a number; one that is newer than the robot's list says so. */
const nameOf = (number, names) => names[Number(number)] ?? `unknown (${number})`;

/** The names of the bits that are set, lowest first. */
const namesOf = (flags, names) => names.filter((_, bit) => (Number(flags) >>> bit) & 1);

const known = (stamp) => (BigInt(stamp) === ABSENT ? null : BigInt(stamp));

/** How to read one number of a NumPy dtype such as <f8 or |u1. */
function reader(dtype) {
  const little = dtype[0] !== ">";
  const read = {
    f2: (view, at) => half(view.getUint16(at, little)),
    f4: (view, at) => view.getFloat32(at, little),
    f8: (view, at) => view.getFloat64(at, little),
    i1: (view, at) => view.getInt8(at),
    i2: (view, at) => view.getInt16(at, little),
    i4: (view, at) => view.getInt32(at, little),
    i8: (view, at) => view.getBigInt64(at, little),
    u1: (view, at) => view.getUint8(at),
    u2: (view, at) => view.getUint16(at, little),
    u4: (view, at) => view.getUint32(at, little),
    u8: (view, at) => view.getBigUint64(at, little),
    b1: (view, at) => view.getUint8(at) !== 0,
  }[dtype.slice(1)];
  if (read === undefined) throw new Error(`${dtype} is no number's dtype`);
  return { read, size: Number(dtype[2]) };
}

/** A float of 16 bits. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** An array in C order as lists of lists; of no dimension the number itself. */
function nested(flat, shape) {
  if (shape.length === 0) return flat[0];
  const size = flat.length / shape[0];
  const rest = shape.slice(1);
  return Array.from({ length: shape[0] }, (_, row) =>
    nested(flat.slice(row * size, (row + 1) * size), rest),
  );
}

const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

// ---- the robot's frames -----------------------------------------------------------------------

/** The layout of a robot's frames, from its description, and the large samples that came. */
class Robot {
  constructor(description) {
    if (description.wire !== WIRE) {
      throw new Error(`the robot speaks version ${description.wire}, this is ${WIRE}`);
    }
    Object.assign(this, description);
    this.epoch = BigInt(description.epoch);
    this.large = new Map(); // sensor -> [sequence, bytes] of the newest one
    this.number = null;
  }

  /** The frame in a message; null: it is of another run. */
  frame(parts) {
    const [wire, hash, epoch, number, , frame, rows, acts] = decode(parts[1]);
    if (wire !== WIRE || hash !== this.hash || BigInt(epoch) !== this.epoch) return null;
    const lost = this.number === null ? 0n : BigInt(number) - this.number - 1n;
    this.number = BigInt(number);
    return {
      cycle: BigInt(frame[0]),
      due_ns: BigInt(frame[1]),
      latched_ns: BigInt(frame[4]),
      skew_ns: known(frame[5]),
      flags: namesOf(frame[12], this.frame_flags),
      lost,
      state: nameOf(frame[16], this.states),
      sensors: Object.fromEntries(
        this.sensors.map((sensor, index) => [sensor.name, this.sample(sensor, rows[index], parts)]),
      ),
      command: {
        cycle: BigInt(frame[6]),
        ...Object.fromEntries(
          this.actuators.map((actuator, index) => [actuator.name, this.act(acts[index])]),
        ),
      },
    };
  }

  sample(sensor, row, parts) {
    const bytes = this.bytes(sensor, row, parts);
    return {
      status: nameOf(row[7], this.statuses),
      reason: nameOf(row[8], this.reasons),
      age_ns: known(row[5]),
      acquired_ns: known(row[3]),
      sequence: BigInt(row[0]),
      value: bytes === null ? null : fields(sensor, bytes),
    };
  }

  /** The bytes of a sample; null: there is none, or the message that brought it was lost. */
  bytes(sensor, row, parts) {
    const [sequence, where] = [BigInt(row[0]), Number(row[10])];
    const [part, at, size] = [sensor.part, sensor.offset, sensor.size].map(Number);
    if (where === 1) {
      const bytes = parts[part].subarray(at, at + size);
      if (part > 2) this.large.set(sensor.name, [sequence, Buffer.from(bytes)]);
      return bytes;
    }
    const [kept, bytes] = this.large.get(sensor.name) ?? [null, null];
    return where === 2 && kept === sequence ? bytes : null;
  }

  act([flags, reason, , , requested, applied]) {
    return {
      requested: doubles(requested),
      applied: doubles(applied),
      flags: namesOf(flags, this.act_flags),
      reason: nameOf(reason, this.reasons),
    };
  }
}

function fields(sensor, bytes) {
  const data = view(bytes);
  const values = {};
  let at = 0;
  for (const [name, shape, dtype] of sensor.fields) {
    const { read, size } = reader(dtype);
    const count = shape.reduce((product, length) => product * Number(length), 1);
    const flat = Array.from({ length: count }, (_, k) => read(data, at + k * size));
    values[name] = nested(flat, shape.map(Number));
    at += count * size;
  }
  return values;
}

function doubles(bytes) {
  const data = view(bytes);
  return Array.from({ length: bytes.byteLength / 8 }, (_, k) => data.getFloat64(8 * k, true));
}

// ---- sockets ----------------------------------------------------------------------------------

/** The messages of a robot: ["description", map], ["frame", parts], ["end"]. */
async function* messages(endpoint) {
  const socket = new Subscriber({ receiveTimeout: TIMEOUT_MS, linger: 0 });
  socket.subscribe(TOPICS.description, TOPICS.end); // before connecting
  socket.connect(endpoint);
  try {
    for await (const parts of socket) {
      if (parts[0].equals(TOPICS.frame)) yield ["frame", parts];
      else if (parts[0].equals(TOPICS.end)) return;
      else {
        yield ["description", decode(parts[0].subarray(TOPICS.description.length))];
        socket.subscribe(TOPICS.frame); // once the description is there
      }
    }
  } finally {
    socket.close();
  }
}

/** Ask the control socket; its reply. */
async function ask(endpoint, request) {
  const socket = new Request({ receiveTimeout: ANSWER_MS, sendTimeout: ANSWER_MS, linger: 0 });
  socket.connect(endpoint);
  try {
    await socket.send(encode({ id: 1, ...request }));
    const [reply] = await socket.receive();
    const answer = decode(reply);
    if (!answer.ok) throw new Error(answer.error);
    return answer;
  } finally {
    socket.close();
  }
}

// ---- printing ---------------------------------------------------------------------------------

/** JSON with integers of any size; NaN, which JSON lacks, is null. */
function json(value) {
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map(json).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const pairs = Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${json(one)}`);
    return `{${pairs.join(", ")}}`;
  }
  return JSON.stringify(value);
}

const us = (ns) => (ns === null ? "-" : `${(Number(ns) / 1000).toFixed(1)} us`);

function text(frame) {
  const lines = [
    `cycle ${frame.cycle}  ${frame.state}  skew ${us(frame.skew_ns)}  ${frame.flags.join(" ")}`,
  ];
  for (const [name, sample] of Object.entries(frame.sensors)) {
    const reason = sample.reason === "none" ? "" : ` (${sample.reason})`;
    lines.push(`  ${name}  ${sample.status}${reason}  age ${us(sample.age_ns)}`);
    for (const [field, value] of Object.entries(sample.value ?? {})) {
      lines.push(`    ${field}  ${json(value).slice(0, 200)}`);
    }
  }
  for (const [name, act] of Object.entries(frame.command)) {
    if (name === "cycle") continue;
    lines.push(`  ${name}  ${act.flags.join(" ")}  applied ${json(act.applied)}`);
  }
  return lines.join("\n");
}

async function main() {
  const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "boolean" },
      count: { type: "string" },
      control: { type: "string" },
      estop: { type: "boolean" },
    },
  });
  if (positionals.length !== 1) {
    console.error("usage: node subscriber.mjs ENDPOINT [--json] [--count N] [--control ENDPOINT]");
    process.exit(2);
  }
  if (options.control) {
    const { description } = await ask(options.control, { do: "describe" });
    const { robot, sensors, actuators } = description;
    const named = [...sensors, ...actuators].map((one) => one.name).join(", ");
    console.error(`robot ${robot}: ${named}`);
  }
  let robot = null;
  let left = Number(options.count ?? Infinity);
  for await (const [kind, content] of messages(positionals[0])) {
    if (kind === "description") robot = new Robot(content);
    const frame = kind === "frame" ? robot.frame(content) : null;
    if (frame === null) continue;
    console.log(options.json ? json(frame) : text(frame));
    if (--left <= 0) break;
  }
  if (options.control) {
    if (options.estop) await ask(options.control, { do: "estop" });
    const { counts } = await ask(options.control, { do: "status" });
    console.error(`commands ${counts.commands}, missed ${counts.missed}`);
  }
}

await main();
