// What every Node driver shares: the sizes, the peer's own modules, worker processes, the figures on standard output.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export { sleep }
export const scale = Number(process.env.OSTLER_BENCH_SCALE ?? 1)
export const postgres = process.env.OSTLER_BENCH_POSTGRES
export const redis = process.env.OSTLER_BENCH_REDIS

// The table that is measured: `q1` by one worker process, `q2` by one and by three.
const table = process.env.OSTLER_BENCH_TABLE ?? 'q1'
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

// The driver once more, as a worker: begins when it is told to, with everything loaded, counts aloud, and ends when its
// standard input does. `begin` is given what a handler calls, with how many jobs it has done.
export const isWorker = process.argv.includes('worker')
export async function worker (begin) {
  let count = 0
  let told = 0
  console.log('0')
  await once(process.stdin, 'data')
  process.stdin.on('end', () => process.exit(0))
  setInterval(() => { if (count !== told) console.log(told = count) }, 2)
  await begin((jobs = 1) => { count += jobs })
}

// Seconds that so many workers take for so many jobs: from the word that lets them begin until `open` finds none left.
async function drain (workers, jobs, open) {
  const counts = []
  const children = Array.from({ length: workers }, (_, which) => {
    const child = spawn(process.execPath, [process.argv[1], 'worker'], { stdio: ['pipe', 'pipe', 'inherit'] })
    createInterface({ input: child.stdout }).on('line', line => { counts[which] = Number(line) })
    child.on('exit', code => { if (code) throw new Error(`a worker ended with ${code}`) })
    return child
  })
  await until(() => children.every((_, which) => counts[which] === 0))
  const start = seconds()
  children.forEach(child => child.stdin.write('go\n'))
  await until(() => counts.reduce((sum, count) => sum + count, 0) >= jobs)
  await until(async () => !(await open()))
  const took = seconds() - start
  await Promise.all(children.map(child => { child.stdin.end(); return once(child, 'exit') }))
  return took
}

// Q1 or Q2: so many jobs given to the queue, and drained by worker processes.
export async function rates (jobs, enqueue, open, given, how) {
  for (const workers of table === 'q2' ? [1, 3] : [1]) {
    const start = seconds()
    await enqueue(jobs)
    if (workers === 1) figure(`${table}_enqueue`, jobs / (seconds() - start), 'jobs/s', `${jobs}, ${given}`)
    const took = await drain(workers, jobs, open)
    const name = `${table}_drain${workers === 1 ? '' : workers}`
    figure(name, jobs / took, 'jobs/s', `${jobs}, ${workers} process${workers === 1 ? '' : 'es'}, ${how}`)
  }
}

// Q8 of a peer that keeps finished jobs: what a job of 5000 more costs beside so many, in a store that has none yet.
export async function sizes (enqueue, open, how) {
  if (table !== 'q2') return
  let finished = 0
  const run = async jobs => {
    await enqueue(jobs)
    finished += jobs
    return drain(1, jobs, open)
  }
  for (const size of [1000, 10_000, 100_000].filter(size => size <= 100_000 * scale)) {
    while (finished < size) await run(Math.min(size - finished, 50_000))
    const took = [await run(5000), await run(5000), await run(5000)].sort((a, b) => a - b)
    figure(`q8_run_${size}`, took[1] / 5000 * 1e6, 'us', `a job of 5000, beside ${size} finished, median of 3, ${how}`)
  }
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
