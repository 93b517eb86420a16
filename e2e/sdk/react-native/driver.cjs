// Sends the calls of e2e/sdk through the unmodified @segment/analytics-react-native
// on Node. In place of react-native is react-native-web, in place of the phone
// what describes it below, in place of its storage a Map. What it is to do comes
// in the environment: ENDPOINT, WRITE_KEY, PERSON, COUNT, and MODE. It ends with
// status 1 if something is left to send.
const { NativeModules } = require('react-native')
NativeModules.AnalyticsReactNative = {
  getContextInfo: async () => ({
    appName: 'Kiosk', appVersion: '1.0', buildNumber: '1', bundleId: 'com.example.kiosk', locale: 'en-GB', networkType: 'wifi', osName: 'iOS',
    osVersion: '18.1', screenHeight: 852, screenWidth: 393, timezone: 'Europe/London', manufacturer: 'Apple', model: 'iPhone16,2',
    deviceName: 'iPhone', deviceId: '93C1', deviceType: 'ios',
  }),
}
NativeModules.Sovran = { addListener() {}, removeListeners() {} }
const { createClient, Plugin, PluginType } = require('@segment/analytics-react-native')

const { ENDPOINT, WRITE_KEY, PERSON, COUNT } = process.env
const kept = new Map()
const errors = []
const analytics = createClient({
  writeKey: WRITE_KEY,
  proxy: ENDPOINT + '/v1',
  cdnProxy: ENDPOINT + '/v1',
  useSegmentEndpoints: true,
  allowInsecureProxy: true, // or it sends to Segment when the endpoint is not https
  flushAt: 10,
  flushInterval: 1,
  storePersistor: { get: async key => kept.get(key), set: async (key, value) => void kept.set(key, value) },
  errorHandler: e => errors.push(e),
  logger: { enable() {}, disable() {}, info() {}, warn() {}, error: console.error },
})

// Gives the order what a track call cannot: its time, and integrations.
analytics.add({
  plugin: new (class extends Plugin {
    type = PluginType.enrichment
    execute(event) {
      if (event.event === 'Order Completed') {
        event.timestamp = new Date(Date.now() - 3_600_000).toISOString()
        event.integrations = { ...event.integrations, Other: false }
      }
      return event
    }
  })(),
})

async function main() {
  await analytics.identify(PERSON, { email: PERSON + '@example.com', plan: 'gold', visits: 3 })
  await analytics.track('Order Completed', { revenue: 12.5, products: [{ sku: 'a' }] })
  await analytics.screen('Menu', { tab: 1 })
  await analytics.group('acme', { name: 'Acme', seats: 20 })
  for (let n = 0; n < Number(COUNT); n++) {
    await analytics.track('Counted', { n })
  }
  await analytics.alias(PERSON + '-new') // who they are from here on
  if (!analytics.isReady.value) await new Promise(resolve => analytics.isReady.onChange(resolve))
  for (let i = 0, quiet = 0; i < 300; i++) {
    await analytics.flush()
    quiet = await analytics.pendingEvents() === 0 ? quiet + 1 : 0
    if (quiet === 3) process.exit(0)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  console.error(await analytics.pendingEvents(), 'events are left', errors)
  process.exit(1)
}
main()
