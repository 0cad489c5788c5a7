// BullMQ with addBulk, many jobs at once in one worker, and finished jobs removed.
import { figure, latency, load, redis, scale, seconds, until } from './common.mjs'

const { Queue, Worker } = load('bullmq')
const Redis = load('ioredis')
const N = Math.round(20_000 * scale)
const connection = new Redis(redis, { maxRetriesPerRequest: null })
const [, aof] = await connection.config('GET', 'appendonly').catch(() => [])
const durable = aof === 'yes' ? 'Redis with AOF' : 'Redis without AOF: not durable'
const defaults = { connection, defaultJobOptions: { removeOnComplete: true, removeOnFail: true } }

const queue = new Queue('ostler-bench-noop', defaults)
await queue.obliterate({ force: true })
let start = seconds()
for (let i = 0; i < N; i += 1000) {
  await queue.addBulk(Array.from({ length: Math.min(1000, N - i) }, () => ({ name: 'noop', data: {} })))
}
figure('q1_enqueue', N / (seconds() - start), 'jobs/s', `${N}, addBulk of 1000; ${durable}`)

let handled = 0
start = seconds()
const worker = new Worker('ostler-bench-noop', async () => { handled++ }, { connection, concurrency: 100 })
await until(() => handled >= N)
await until(async () => !Object.values(await queue.getJobCounts('wait', 'active')).some(Boolean))
figure('q1_drain', N / (seconds() - start), 'jobs/s', `${N}, 100 at once; ${durable}`)
await worker.close()
await queue.obliterate({ force: true })

const single = new Queue('ostler-bench-late', defaults)
await single.obliterate({ force: true })
const idle = latency(() => single.add('late', {}))
const late = new Worker('ostler-bench-late', async () => idle.handler(), { connection, concurrency: 100 })
await late.waitUntilReady()
await idle.run(durable)
await late.close()
await single.obliterate({ force: true })
await queue.close()
await single.close()
connection.disconnect()
