// Sends the calls of e2e/sdk through the unmodified analytics-node, which
// @segment/analytics-node has replaced. What it is to do comes in the
// environment: ENDPOINT, WRITE_KEY, PERSON, COUNT, and MODE, basic or retry
// (small batches). It ends with status 1 if the SDK gave anything up.
import Analytics from 'analytics-node'

const { ENDPOINT, WRITE_KEY, PERSON, COUNT, MODE } = process.env
const failures = []
const analytics = new Analytics(WRITE_KEY, {
  host: ENDPOINT, flushAt: MODE === 'retry' ? 10 : 20, flushInterval: 100, retryCount: 10, errorHandler: e => failures.push(e.message),
})
let left = 0
const sent = new Promise(resolve => {
  const send = (call, message) => {
    left++
    analytics[call](message, () => { if (--left === 0) resolve() })
  }
  const ids = { userId: PERSON, anonymousId: PERSON + '-browser' }
  send('identify', { ...ids, traits: { email: PERSON + '@example.com', plan: 'gold', visits: 3 } })
  send('track', {
    ...ids, event: 'Order Completed', properties: { revenue: 12.5, products: [{ sku: 'a' }] }, context: { app: { name: 'Kiosk' } },
    integrations: { Other: false }, timestamp: new Date(Date.now() - 3_600_000),
  })
  send('page', { ...ids, category: 'Docs', name: 'Home', properties: { path: '/' } })
  send('screen', { ...ids, category: 'Docs', name: 'Menu', properties: { tab: 1 } })
  send('group', { ...ids, groupId: 'acme', traits: { name: 'Acme', seats: 20 } })
  send('alias', { userId: PERSON, previousId: PERSON + '-old' })
  for (let n = 0; n < Number(COUNT); n++) {
    send('track', { userId: PERSON, event: 'Counted', properties: { n } })
  }
})
await sent
if (failures.length) {
  console.error(failures)
  process.exit(1)
}
