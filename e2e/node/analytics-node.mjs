// Sends every kind of call through the unmodified @segment/analytics-node:
//   node analytics-node.mjs URL WRITE_KEY
import { Analytics } from '@segment/analytics-node'

const [, , host, writeKey] = process.argv
const analytics = new Analytics({ host, writeKey, flushAt: 4 })
const failures = []
analytics.on('error', e => failures.push(e.reason ?? e.code))

const person = { userId: 'sdk-user', anonymousId: 'sdk-browser' }
analytics.identify({ ...person, messageId: 'sdk-identify', traits: { email: 'jo@example.com', plan: 'gold', visits: 3 } })
analytics.track({ ...person, messageId: 'sdk-track', event: 'Order Completed', properties: { revenue: 12.5, products: [{ sku: 'a' }] } })
analytics.page({ ...person, messageId: 'sdk-page', category: 'Docs', name: 'Home', properties: { path: '/' } })
analytics.screen({ ...person, messageId: 'sdk-screen', name: 'Menu', properties: { tab: 1 } })
analytics.group({ ...person, messageId: 'sdk-group', groupId: 'acme', traits: { name: 'Acme', seats: 20 } })
analytics.alias({ messageId: 'sdk-alias', userId: 'sdk-user', previousId: 'sdk-browser' })
// A message id of the SDK's own, an hour ago, and a number that needs all its digits.
analytics.track({ ...person, event: 'Hour Ago', timestamp: new Date(Date.now() - 3_600_000), properties: { id: 9007199254740991 } })
// Sent twice, as after an answer that got lost.
for (let i = 0; i < 2; i++) {
  analytics.track({ ...person, messageId: 'sdk-twice', event: 'Twice' })
}
await analytics.closeAndFlush()
if (failures.length) {
  console.error(failures)
  process.exit(1)
}
