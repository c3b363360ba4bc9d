// Counts the messages of each topic of an MCAP file by the index, forwards and backwards, with all
// checksums, and takes the SHA-256 of their data in order. Prints a JSON object.
import { createHash } from "crypto";
import { open } from "fs/promises";
import { McapIndexedReader } from "@mcap/core";
import { FileHandleReadable } from "@mcap/nodejs";

const file = await open(process.argv[2]);
const reader = await McapIndexedReader.Initialize({ readable: new FileHandleReadable(file) });
const topics = {};
for (const channel of reader.channelsById.values())
  topics[channel.topic] = { count: 0, backwards: 0, hash: createHash("sha256") };
for await (const message of reader.readMessages({ validateCrcs: true })) {
  const topic = topics[reader.channelsById.get(message.channelId).topic];
  topic.count++;
  topic.hash.update(message.data);
}
for await (const message of reader.readMessages({ reverse: true }))
  topics[reader.channelsById.get(message.channelId).topic].backwards++;
for (const topic of Object.values(topics)) topic.hash = topic.hash.digest("hex");
console.log(JSON.stringify(topics));
await file.close();
