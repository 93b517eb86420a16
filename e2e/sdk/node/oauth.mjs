// Sends through the unmodified @segment/analytics-node with OAuth. Where and as
// whom comes in the environment: ENDPOINT, which is the authServer too,
// WRITE_KEY, CLIENT_ID, KEY_ID, and KEY_FILE. It sends the tracks 0 to 9, says
// "sent" and waits for a line, sends track 10, and then 11 to 20. On its output
// it says which it gave up.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { Analytics } from '@segment/analytics-node'

const { ENDPOINT, WRITE_KEY, CLIENT_ID, KEY_ID, KEY_FILE } = process.env
const analytics = new Analytics({
  host: ENDPOINT, writeKey: WRITE_KEY, flushAt: 15, flushInterval: 10,
  oauthSettings: { authServer: ENDPOINT, clientId: CLIENT_ID, keyId: KEY_ID, clientKey: readFileSync(KEY_FILE, 'utf8') },
})
analytics.on('error', e => console.error(e.code, e.reason?.message))

// Sends some tracks, and says what became of each.
const send = (from, to) => Promise.all(Array.from({ length: to - from + 1 }, (_, i) => new Promise(resolve => {
  const n = from + i
  analytics.track({ userId: 'somebody', event: 'Counted', properties: { n } }, failed => {
    if (failed) console.log('gave up', n)
    resolve()
  })
})))

const lines = createInterface({ input: process.stdin })
await send(0, 9)
console.log('sent')
await lines[Symbol.asyncIterator]().next()
await send(10, 10)
await send(11, 20)
lines.close()
await analytics.closeAndFlush()
