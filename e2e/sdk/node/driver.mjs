// Sends the calls of e2e/sdk through the unmodified @segment/analytics-node.
// What it is to do comes in the environment: ENDPOINT, WRITE_KEY, PERSON, COUNT,
// and MODE, basic or retry (small batches). It ends with status 1 if the SDK
// gave anything up.
import { Analytics } from '@segment/analytics-node'

const { ENDPOINT, WRITE_KEY, PERSON, COUNT, MODE } = process.env
const analytics = new Analytics({ host: ENDPOINT, writeKey: WRITE_KEY, flushAt: MODE === 'retry' ? 10 : 15, maxRetries: 10 })
const failures = []
analytics.on('error', e => failures.push(e.reason ?? e.code))

const ids = { userId: PERSON, anonymousId: PERSON + '-browser' }
analytics.identify({ ...ids, traits: { email: PERSON + '@example.com', plan: 'gold', visits: 3 } })
analytics.track({
  ...ids, event: 'Order Completed', properties: { revenue: 12.5, products: [{ sku: 'a' }] }, context: { app: { name: 'Kiosk' } },
  integrations: { Other: false }, timestamp: new Date(Date.now() - 3_600_000),
})
analytics.page({ ...ids, category: 'Docs', name: 'Home', properties: { path: '/' } })
analytics.screen({ ...ids, category: 'Docs', name: 'Menu', properties: { tab: 1 } })
analytics.group({ ...ids, groupId: 'acme', traits: { name: 'Acme', seats: 20 } })
analytics.alias({ userId: PERSON, previousId: PERSON + '-old' })
for (let n = 0; n < Number(COUNT); n++) {
  analytics.track({ userId: PERSON, event: 'Counted', properties: { n } })
}
await analytics.closeAndFlush({ timeout: 60_000 })
if (failures.length) {
  console.error(failures)
  process.exit(1)
}
