// graphile-worker with its local queue and batched completions, as its page on performance advises.
import { database, figure, latency, load, postgres, scale, seconds, until } from './common.mjs'

const { Logger, makeWorkerUtils, run } = load('graphile-worker')
const N = Math.round(20_000 * scale)
const logger = new Logger(() => () => {})
const client = await database()
await client.query('drop schema if exists graphile_worker cascade')
const utils = await makeWorkerUtils({ connectionString: postgres, logger })
await utils.migrate()

let handled = 0
const idle = latency(() => utils.addJob('late', {}))
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

let start = seconds()
for (let i = 0; i < N; i += 1000) {
  await utils.addJobs(Array.from({ length: Math.min(1000, N - i) }, () => ({ identifier: 'noop', payload: {} })))
}
figure('q1_enqueue', N / (seconds() - start), 'jobs/s', `${N}, addJobs of 1000`)

start = seconds()
const runner = await run({ preset, noHandleSignals: true, taskList: { noop: () => { handled++ }, late: idle.handler } })
await until(() => handled >= N)
await until(async () => !(await client.query('select 1 from graphile_worker.jobs limit 1')).rowCount)
figure('q1_drain', N / (seconds() - start), 'jobs/s', `${N}, 24 at once, local queue 500, batched completion`)

await idle.run('the same worker')
await runner.stop()
await utils.release()
await client.query('drop schema graphile_worker cascade')
await client.end()
