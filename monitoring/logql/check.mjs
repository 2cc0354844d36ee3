// Parses questions in LogQL: `node check.mjs < questions.json`, a list of pairs of where a question stands and what it
// is. Each that is none is told with the place where it ends to be one; then the exit status is 1.
import { readFileSync } from "node:fs";
import { parser } from "@grafana/lezer-logql";

let wrong = 0;

for (const [where, question] of JSON.parse(readFileSync(0, "utf8"))) {
  let place = question.trim() === "" ? 0 : null;
  parser.parse(question).iterate({
    enter(node) {
      if (node.type.isError && place === null) place = node.from;
    },
  });
  if (place !== null) {
    wrong += 1;
    console.error(`${where}: no LogQL from character ${place + 1} on: ${question.slice(place) || "(its end)"}`);
  }
}

process.exitCode = wrong === 0 ? 0 : 1;
