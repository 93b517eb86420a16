// Works through the unmodified @segment/public-api-sdk-typescript:
//   node public-api.mjs URL TOKEN WEBHOOK
// The base path is Kith's: URL/api. Prints what it has made as JSON.
import assert from 'node:assert/strict'
import sdk from '@segment/public-api-sdk-typescript'

const [, , host, token, webhook] = process.argv
const apis = sdk.configureApis(token)
for (const api of Object.values(apis)) api.basePath = host + '/api'
const audiences = apis.audiences = new sdk.AudiencesApi(host + '/api') // configureApis leaves it out
audiences.accessToken = token
const { workspaces, sources, destinations, trackingPlans, spaces, catalog, testing } = apis
const page = { count: 200 }
const data = async promise => (await promise).body.data

const { workspace } = await data(workspaces.getWorkspace())
assert.ok(workspace.id && workspace.slug)
assert.equal((await data(testing.echo('hello'))).message, 'hello')
const kinds = (await data(catalog.getDestinationsCatalog(page))).destinationsCatalog
assert.ok(kinds.some(k => k.slug === 'webhook'), 'the catalogue lists the webhook')

// A source: create, read, change, list, a second write key, settings.
const { source } = await data(sources.createSource({ slug: 'shop', enabled: true, metadataId: 'http-api', settings: {} }))
assert.equal(source.slug, 'shop')
assert.equal(source.writeKeys.length, 1)
assert.deepEqual((await data(sources.getSource(source.id))).source.writeKeys, source.writeKeys)
assert.equal((await data(sources.updateSource(source.id, { name: 'Web shop' }))).source.name, 'Web shop')
const second = (await data(sources.createWriteKeyForSource(source.id))).source.writeKeys
assert.equal(second.length, 2)
const added = second.find(k => !source.writeKeys.includes(k))
assert.equal((await data(sources.removeWriteKeyFromSource(source.id, added))).status, 'SUCCESS')
for (let i = 0; i < 5; i++) await sources.createSource({ slug: `more-${i}`, enabled: true, metadataId: 'http-api' })
const seen = []
for (let cursor; ;) {
  const list = await data(sources.listSources(cursor ? { count: 2, cursor } : { count: 2 }))
  assert.ok(list.sources.length <= 2)
  seen.push(...list.sources.map(s => s.slug))
  if (!(cursor = list.pagination.next)) { assert.equal(list.pagination.totalEntries, 6); break }
}
assert.deepEqual([...seen].sort(), ['more-0', 'more-1', 'more-2', 'more-3', 'more-4', 'shop'])
const settings = { track: { allowUnplannedEvents: true, allowUnplannedEventProperties: true, allowEventOnViolations: false, allowPropertiesOnViolations: true, commonEventOnViolations: 'ALLOW' } }
assert.equal((await data(sources.updateSchemaSettingsInSource(source.id, settings))).settings.track.allowEventOnViolations, false)
assert.equal((await data(sources.listSchemaSettingsInSource(source.id))).settings.track.allowUnplannedEvents, true)

// A tracking plan with a rule, held against the source.
const { trackingPlan } = await data(trackingPlans.createTrackingPlan({ name: 'Orders', type: 'LIVE' }))
assert.match(trackingPlan.id, /^tp_/)
const jsonSchema = { type: 'object', properties: { properties: { type: 'object', properties: { revenue: { type: 'number' } }, required: ['revenue'] } } }
await trackingPlans.updateRulesInTrackingPlan(trackingPlan.id, { rules: [{ type: 'TRACK', key: 'Order Completed', version: 1, jsonSchema }] })
const { rules } = await data(trackingPlans.listRulesFromTrackingPlan(trackingPlan.id, page))
assert.equal(rules.length, 1)
assert.deepEqual(rules[0].jsonSchema, jsonSchema)
await trackingPlans.addSourceToTrackingPlan(trackingPlan.id, { sourceId: source.id })
assert.equal((await data(trackingPlans.listSourcesFromTrackingPlan(trackingPlan.id, page))).sources[0].id, source.id)

// A webhook that gets one of the source's events.
const { destination } = await data(destinations.createDestination({ sourceId: source.id, metadataId: 'webhook', name: 'Books', enabled: true, settings: { url: webhook } }))
const actionId = destination.metadata.actions[0].id
const { destinationSubscription } = await data(destinations.createDestinationSubscription(destination.id, { name: 'Orders', actionId, trigger: 'event = "Order Completed"', enabled: true }))
assert.equal(destinationSubscription.trigger, 'event = "Order Completed"')
assert.equal((await data(destinations.listSubscriptionsFromDestination(destination.id, page))).subscriptions.length, 1)
assert.equal((await data(sources.listConnectedDestinationsFromSource(source.id, page))).destinations[0].id, destination.id)

// Spaces and audiences can be read.
const space = (await data(spaces.listSpaces(page))).spaces.find(s => s.slug === 'default')
assert.equal((await data(spaces.getSpace(space.id))).space.id, space.id)
assert.deepEqual((await data(audiences.listAudiences(space.id, page))).audiences, [])

// Mistakes come back in the form that the SDK knows.
const refused = async (promise, status) => {
  try { await promise } catch (e) {
    assert.equal(e.statusCode, status, JSON.stringify(e.body))
    assert.ok(e.body.errors[0].message, JSON.stringify(e.body))
    return e.body.errors[0]
  }
  assert.fail('this should have been refused')
}
await refused(sources.getSource('nobody'), 404)
await refused(sources.createSource({ slug: 'shop', enabled: true, metadataId: 'http-api' }), 422)
await refused(destinations.createDestinationSubscription(destination.id, { name: 'x', actionId, trigger: 'event = = "x"', enabled: true }), 422)
await refused(trackingPlans.updateRulesInTrackingPlan(trackingPlan.id, { rules: [{ type: 'TRACK', key: 'x', version: 1, jsonSchema: { type: 'text' } }] }), 422)
for (const api of Object.values(apis)) api.accessToken = 'wrong'
await refused(workspaces.getWorkspace(), 401)

console.log(JSON.stringify({ writeKey: source.writeKeys[0], source: source.id, destination: destination.id }))
