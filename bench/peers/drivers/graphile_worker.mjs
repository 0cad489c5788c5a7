// graphile-worker with its local queue and batched completions, as its page on performance advises.
import { database, isWorker, latency, load, postgres, rates, scale, worker } from './common.mjs'

const { Logger, makeWorkerUtils, run } = load('graphile-worker')
const logger = new Logger(() => () => {})
const preset = {
  worker: {
    connectionString: postgres,
    concurrentJobs: 24,
    maxPoolSize: 10,
    pollInterval: 2000,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger
  }
}
const work = taskList => run({ preset, noHandleSignals: true, taskList })

if (isWorker) await worker(done => work({ noop: () => done() }))
else await measure()

async function measure () {
  const client = await database()
  await client.query('drop schema if exists graphile_worker cascade')
  const utils = await makeWorkerUtils({ connectionString: postgres, logger })
  await utils.migrate()
  const enqueue = async jobs => {
    for (let left = jobs; left > 0; left -= 1000) {
      await utils.addJobs(Array.from({ length: Math.min(1000, left) }, () => ({ identifier: 'noop', payload: {} })))
    }
  }
  const open = async () => (await client.query('select 1 from graphile_worker.jobs limit 1')).rowCount
  const how = '24 at once, local queue 500, batched completion; finished jobs are deleted'
  await rates(Math.round(50_000 * scale), enqueue, open, 'addJobs of 1000', how)

  const idle = latency(() => utils.addJob('late', {}))
  const runner = await work({ late: idle.handler })
  await idle.run('the same worker')
  await runner.stop()
  await utils.release()
  await client.query('drop schema graphile_worker cascade')
  await client.end()
}
