// Asks for the delivery overview through the unmodified
// @segment/public-api-sdk-typescript:
//   node delivery-overview.mjs URL TOKEN SOURCE-SLUG DAY
// DAY is the day of the test clock. It checks that the numbers add up: what was
// received is filtered, delivered, failed or pending, at every destination.
import assert from 'node:assert/strict'
import sdk from '@segment/public-api-sdk-typescript'

const [, , host, token, slug, day] = process.argv
const apis = sdk.configureApis(token)
for (const api of Object.values(apis)) api.basePath = host + '/api'
const overviews = new sdk.DeliveryOverviewApi(host + '/api') // configureApis may leave it out
overviews.accessToken = token
const { sources, destinations } = apis
const page = { count: 200 }
const data = async promise => (await promise).body.data

const source = (await data(sources.listSources(page))).sources.find(s => s.slug === slug)
const from = `${day}T00:00:00Z`
const to = new Date(Date.parse(from) + 86400e3).toISOString()
const ingest = (name, groupBy, filter) => data(overviews[`get${name}MetricsFromDeliveryOverview`](source.id, from, to, 'hour', page, groupBy, filter))
const egress = (name, id, groupBy, filter, subscription) =>
  data(overviews[`get${name}MetricsFromDeliveryOverview`](source.id, id, from, to, 'hour', page, groupBy, filter, subscription))

const received = await ingest('IngressSuccess')
const refused = await ingest('IngressFailed', ['discardReason'])
const filtered = await ingest('FilteredAtSource', ['discardReason', 'eventName'])
const sum = list => list.reduce((n, x) => n + x, 0)
const out = { received: received.total, refused: refused.total, filteredAtSource: filtered.total, reasons: {} }
for (const d of [...refused.dataset, ...filtered.dataset]) out.reasons[d.discardReason] = d.total
for (const o of [received, refused, filtered]) {
  assert.equal(o.total, sum(o.dataset.map(d => d.total)))
  for (const d of o.dataset) assert.equal(d.total, sum(d.series.map(p => p.count)))
}

out.destinations = {}
for (const d of (await data(destinations.listDestinations(page))).destinations) {
  if (d.sourceId !== source.id) continue
  const kept = await egress('FilteredAtDestination', d.id, ['discardReason'])
  const failed = await egress('EgressFailed', d.id, ['discardReason'])
  const sent = await egress('EgressSuccess', d.id)
  const pending = sum(sent.dataset.map(x => x.totalRetryCount))
  out.destinations[d.slug ?? d.name] = { filtered: kept.total, failed: failed.total, delivered: sent.total, pending }
  if (d.enabled) assert.equal(kept.total + failed.total + sent.total + pending, received.total - filtered.total, `${d.name} adds up`)
  for (const x of [...kept.dataset, ...failed.dataset]) if (x.total) out.reasons[x.discardReason] = (out.reasons[x.discardReason] ?? 0) + x.total
  const byName = await egress('EgressSuccess', d.id, ['eventName', 'eventType'])
  assert.equal(byName.total, sent.total)
  for (const x of byName.dataset) assert.equal(x.eventType, 'track')
  const orders = await egress('EgressSuccess', d.id, undefined, { eventName: ['Order Completed'] })
  assert.equal(orders.total, sum(byName.dataset.filter(x => x.eventName === 'Order Completed').map(x => x.total)))
  const { deliveryMetricsSummary: m } = await data(destinations.listDeliveryMetricsSummaryFromDestination(d.id, source.id, from, to, 'HOUR'))
  const total = name => m.metrics.find(x => x.metricName === name).total
  assert.deepEqual([total('successes'), total('discards'), total('failures'), total('pending')], [sent.total, kept.total, failed.total, pending])
}
console.log(JSON.stringify(out))
