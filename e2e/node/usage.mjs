// Asks for usage and volume through the unmodified
// @segment/public-api-sdk-typescript:
//   node usage.mjs URL TOKEN SOURCE-SLUG DAY
// DAY is the day of the test clock, in the first of its month.
import assert from 'node:assert/strict'
import sdk from '@segment/public-api-sdk-typescript'

const [, , host, token, slug, day] = process.argv
const apis = sdk.configureApis(token)
for (const api of Object.values(apis)) api.basePath = host + '/api'
const page = { count: 200 }
const data = async promise => (await promise).body.data

const source = (await data(apis.sources.listSources(page))).sources.find(s => s.slug === slug)
const calls = (await data(apis.apiCalls.getDailyWorkspaceAPICallsUsage(day, page))).dailyWorkspaceAPICallsUsage
const bySource = (await data(apis.apiCalls.getDailyPerSourceAPICallsUsage(day, page))).dailyPerSourceAPICallsUsage.filter(c => c.sourceId === source.id)
const mtu = (await data(apis.monthlyTrackedUsers.getDailyWorkspaceMTUUsage(day, page))).dailyWorkspaceMTUUsage
const mtuBySource = (await data(apis.monthlyTrackedUsers.getDailyPerSourceMTUUsage(day, page))).dailyPerSourceMTUUsage.filter(c => c.sourceId === source.id)
assert.equal(calls.at(-1).timestamp, `${day}T00:00:00.000Z`)
assert.equal(bySource.at(-1).apiCalls, calls.at(-1).apiCalls)
for (const name of ['identified', 'anonymous', 'anonymousIdentified', 'neverIdentified']) assert.equal(mtuBySource.at(-1)[name], mtu.at(-1)[name])
assert.equal(mtu[0].periodStart, Date.parse(day.slice(0, 7) + '-01T00:00:00Z') / 1000)

const to = new Date(Date.parse(day) + 86400e3).toISOString()
const volume = await data(apis.events.getEventsVolumeFromWorkspace('HOUR', `${day}T00:00:00Z`, to, ['eventName', 'source'], [source.id], undefined, ['track'], undefined, page))
assert.equal(volume.query.granularity, 'HOUR')
const events = {}
for (const s of volume.result) {
  assert.equal(s.source.slug, slug)
  assert.equal(s.total, s.series.reduce((n, p) => n + p.count, 0))
  events[s.eventName] = s.total
}
console.log(JSON.stringify({ calls: calls.at(-1).apiCalls, mtu: mtu.at(-1), events }))
