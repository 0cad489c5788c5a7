// What every Node driver shares: the sizes, the peer's own modules, the figures on standard output.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export { sleep }
export const scale = Number(process.env.OSTLER_BENCH_SCALE ?? 1)
export const postgres = process.env.OSTLER_BENCH_POSTGRES
export const redis = process.env.OSTLER_BENCH_REDIS

const home = process.env.OSTLER_BENCH_PEER_HOME
export const load = createRequire(`${home}/package.json`)

const peer = process.env.OSTLER_BENCH_PEER
const version = JSON.parse(readFileSync(`${home}/node_modules/${peer}/package.json`)).version

export function figure (name, value, unit, note = '') {
  console.log(JSON.stringify({ peer, version, figure: name, value, unit, note }))
}

export const seconds = () => performance.now() / 1000

// Waits until `done` says so, looking often enough not to matter.
export async function until (done) {
  while (!(await done())) await sleep(2)
}

// Makes the database if it is not there, and gives a client of it.
export async function database () {
  const { Client } = load('pg')
  const url = new URL(postgres)
  const name = url.pathname.slice(1)
  url.pathname = '/postgres'
  const admin = new Client({ connectionString: url.href })
  await admin.connect()
  const there = await admin.query('select 1 from pg_database where datname = $1', [name])
  if (!there.rowCount) await admin.query(`create database ${admin.escapeIdentifier(name)}`)
  await admin.end()
  const client = new Client({ connectionString: postgres })
  await client.connect()
  return client
}

// Q3: one job on an idle queue, 200 times. `begun` is called by the handler.
export function latency (enqueue) {
  let begun
  const handler = () => begun?.(performance.now())
  const run = async (note = '') => {
    const took = []
    for (let i = -5; i < Math.max(20, 200 * scale); i++) {
      const handled = new Promise(resolve => { begun = resolve })
      const start = performance.now()
      await enqueue()
      const at = await handled
      if (i >= 0) took.push(at - start)
      await sleep(10)
    }
    took.sort((a, b) => a - b)
    const quantile = q => took[Math.min(took.length - 1, Math.ceil(q * took.length) - 1)]
    figure('q3_p50', quantile(0.5), 'ms', note)
    figure('q3_p99', quantile(0.99), 'ms', note)
  }
  return { handler, run }
}
