// Follows a live view by the client of Foxglove's protocol that viewers in a browser use, until each
// topic of a recording had so many messages. Decodes every message by protobufjs. Prints a JSON object.
import { createHash } from "crypto";
import protocol from "@foxglove/ws-protocol";
import protobuf from "protobufjs";
import descriptor from "protobufjs/ext/descriptor/index.js";
import WebSocket from "ws";

const [address, wanted] = [process.argv[2], Number(process.argv[3])];
const client = new protocol.FoxgloveClient({ ws: new WebSocket(address, ["foxglove.sdk.v1"]) });
const topics = {};
const bySubscription = new Map();
let parameters = {};

function decoder(channel) {
  if (channel.encoding === "json") return (data) => JSON.parse(new TextDecoder().decode(data));
  const set = descriptor.FileDescriptorSet.decode(Buffer.from(channel.schema, "base64"));
  const type = protobuf.Root.fromDescriptor(set).lookupType(channel.schemaName);
  return (data) => type.toObject(type.decode(data), { longs: String, bytes: String });
}

function done() {
  console.log(JSON.stringify({ topics, parameters }));
  client.close();
  process.exit(0);
}

client.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
client.on("serverInfo", () => client.getParameters([], "all"));
client.on("parameterValues", (event) => {
  for (const one of event.parameters) parameters[one.name] = one.value;
});
client.on("advertise", (channels) => {
  for (const channel of channels) {
    topics[channel.topic] = { schema: channel.schemaName, messages: [] };
    const one = { topic: topics[channel.topic], decode: decoder(channel) };
    bySubscription.set(client.subscribe(channel.id), one);
  }
});
client.on("message", ({ subscriptionId, timestamp, data }) => {
  const { topic, decode } = bySubscription.get(subscriptionId);
  const octets = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const hash = createHash("sha256").update(octets).digest("hex");
  topic.messages.push({ log_ns: String(timestamp), hash, value: decode(octets) });
  const isDone = ([name, one]) => one.messages.length >= (name === "/description" ? 1 : wanted);
  if (Object.entries(topics).every(isDone)) done();
});
client.on("close", done);
