// BullMQ with addBulk, many jobs at once in each worker, and finished jobs removed.
import { isWorker, latency, load, rates, redis, scale, worker } from './common.mjs'

const { Queue, Worker } = load('bullmq')
const Redis = load('ioredis')
const connection = new Redis(redis, { maxRetriesPerRequest: null })
const NOOP = 'ostler-bench-noop'
const LATE = 'ostler-bench-late'

if (isWorker) await worker(done => new Worker(NOOP, async () => done(), { connection, concurrency: 100 }))
else await measure()

async function measure () {
  const [, aof] = await connection.config('GET', 'appendonly').catch(() => [])
  const durable = aof === 'yes' ? 'Redis with AOF' : 'Redis without AOF: not durable'
  const defaults = { connection, defaultJobOptions: { removeOnComplete: true, removeOnFail: true } }

  const queue = new Queue(NOOP, defaults)
  await queue.obliterate({ force: true })
  const enqueue = async jobs => {
    for (let left = jobs; left > 0; left -= 1000) {
      await queue.addBulk(Array.from({ length: Math.min(1000, left) }, () => ({ name: 'noop', data: {} })))
    }
  }
  const open = async () => Object.values(await queue.getJobCounts('wait', 'active')).some(Boolean)
  const jobs = Math.round(50_000 * scale)
  await rates(jobs, enqueue, open, `addBulk of 1000; ${durable}`, `100 at once; ${durable}`)
  await queue.obliterate({ force: true })

  const single = new Queue(LATE, defaults)
  await single.obliterate({ force: true })
  const idle = latency(() => single.add('late', {}))
  const late = new Worker(LATE, async () => idle.handler(), { connection, concurrency: 100 })
  await late.waitUntilReady()
  await idle.run(durable)
  await late.close()
  await single.obliterate({ force: true })
  await queue.close()
  await single.close()
  connection.disconnect()
}
