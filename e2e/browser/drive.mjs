// Drives a Chromium for the tests of e2e:
//   node drive.mjs EXECUTABLE
// Commands come as JSON, one a line, {id, op, page, …}, and are answered out of
// order with {id, value} or {id, error}. A page has a browser profile of its own.
// When its input ends, so does it.
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const [, , executablePath] = process.argv
const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage', '--no-proxy-server',
    // Nothing but this machine can be reached, whatever a page asks for.
    '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost',
  ],
})
const pages = new Map()

const ops = {
  // open makes a page that keeps what it asks for and what its console says.
  async open({ page }) {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: 'de-CH' })
    const opened = { requests: [], console: [], context, tab: await context.newPage() }
    context.on('request', r => opened.requests.push({ method: r.method(), url: r.url() }))
    context.on('console', m => opened.console.push(m.text()))
    opened.tab.on('pageerror', e => opened.console.push(String(e)))
    pages.set(page, opened)
  },
  async visit({ page, url }) {
    await pages.get(page).tab.goto(url, { waitUntil: 'load' })
  },
  // run runs the body of an async function in the page and returns its value.
  run: ({ page, code }) => pages.get(page).tab.evaluate(`(async () => { ${code} })()`),
  offline: async ({ page, offline }) => pages.get(page).context.setOffline(offline),
  // shut closes the page as a person does; its profile stays.
  async shut({ page }) {
    const closed = pages.get(page).tab.waitForEvent('close')
    await pages.get(page).tab.close({ runBeforeUnload: true })
    await closed
  },
  requests: async ({ page }) => pages.get(page).requests,
  console: async ({ page }) => pages.get(page).console,
  async close({ page }) {
    await pages.get(page).context.close()
    pages.delete(page)
  },
}

const say = answer => process.stdout.write(JSON.stringify(answer) + '\n')
say({ id: 0, value: browser.version() })
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  ops[command.op](command).then(
    value => say({ id: command.id, value: value ?? null }),
    error => say({ id: command.id, error: String(error) }),
  )
}
await browser.close()
