// Sends what stands on standard input, one call a line, through the official
// Node SDK: {"type":"track","userId":…,"event":…}. It ends with its input,
// after everything has been sent, and then says how many calls failed.
import { createInterface } from 'node:readline'
import { Analytics } from '@segment/analytics-node'

// Ctrl-C reaches every process of the terminal. This one ends with its input,
// so that what it was given is still sent.
process.on('SIGINT', () => {})

const [, , host, writeKey] = process.argv
const analytics = new Analytics({ host, writeKey, flushAt: 20, flushInterval: 250 })
let failed = 0
analytics.on('error', () => { failed++ })

const calls = {
  track: c => analytics.track(c), identify: c => analytics.identify(c), page: c => analytics.page(c),
  screen: c => analytics.screen(c), group: c => analytics.group(c), alias: c => analytics.alias(c),
}

for await (const line of createInterface({ input: process.stdin })) {
  const { type, ...call } = JSON.parse(line)
  if (call.timestamp) call.timestamp = new Date(call.timestamp)
  calls[type](call)
}
await analytics.closeAndFlush({ timeout: 10_000 })
process.stdout.write(JSON.stringify({ failed }) + '\n')
