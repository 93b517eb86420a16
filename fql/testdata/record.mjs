// Records what Segment's published libraries make of the triggers in
// triggers.txt on the events in events.jsonl, as triggers.golden:
//
//   npm install --prefix DIR @segment/destination-subscriptions@3.37.0
//   NODE_PATH=DIR/node_modules node record.mjs > triggers.golden
//
// A line is a string with one sign per event (1 match, 0 none, ! thrown), or
// "error" when the trigger cannot be parsed, and the trigger as JSON.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
const { parseFql, validate } = createRequire(process.env.NODE_PATH + "/")("@segment/destination-subscriptions");
const here = new URL(".", import.meta.url);
const lines = name => readFileSync(new URL(name, here), "utf8").split("\n").filter(Boolean);
const events = lines("events.jsonl").map(l => JSON.parse(l));
const sign = (ast, e) => { try { return validate(ast, e) ? "1" : "0" } catch { return "!" } };
for (const line of lines("triggers.txt")) {
  if (line.startsWith("#")) continue;
  const trigger = line.startsWith("json:") ? JSON.parse(line.slice(5)) : line;
  const ast = parseFql(trigger);
  console.log((ast.error ? "error" : events.map(e => sign(ast, e)).join("")) + "\t" + JSON.stringify(trigger));
}
