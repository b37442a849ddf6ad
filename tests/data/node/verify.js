// Reads one JSON object {secret, headers, body (base64)} per line; writes "true" or "false" per line.
const { Webhook } = require("standardwebhooks");
const lines = require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
for (const line of lines) {
  const { secret, headers, body } = JSON.parse(line);
  let isSigned = true;
  try {
    new Webhook(secret).verify(Buffer.from(body, "base64").toString("utf8"), headers);
  } catch {
    isSigned = false;
  }
  console.log(isSigned);
}
