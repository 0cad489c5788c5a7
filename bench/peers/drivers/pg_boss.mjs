// pg-boss woken by NOTIFY, in batches of 500 and fetching on while batches are full, as its documentation advises.
import { database, figure, latency, load, postgres, scale, seconds, until } from './common.mjs'

const { PgBoss } = load('pg-boss')
const N = Math.round(20_000 * scale)
const client = await database()
await client.query('drop schema if exists pgboss cascade')
const boss = new PgBoss({ connectionString: postgres, useListenNotify: true })
boss.on('error', error => { console.error(error.message) })
await boss.start()
await boss.createQueue('noop', { notify: true })
await boss.createQueue('late', { notify: true })

let start = seconds()
for (let i = 0; i < N; i += 1000) {
  await boss.insert('noop', Array.from({ length: Math.min(1000, N - i) }, () => ({ data: {} })))
}
figure('q1_enqueue', N / (seconds() - start), 'jobs/s', `${N}, insert of 1000`)

let handled = 0
const options = { batchSize: 500, localConcurrency: 2, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 }
start = seconds()
await boss.work('noop', options, async jobs => { handled += jobs.length })
await until(() => handled >= N)
const open = "select 1 from pgboss.job where name = 'noop' and state < 'completed' limit 1"
await until(async () => !(await client.query(open)).rowCount)
figure('q1_drain', N / (seconds() - start), 'jobs/s', `${N}, 2 workers, batches of 500, burst`)

const idle = latency(() => boss.send('late', {}))
await boss.work('late', { batchSize: 1 }, async () => idle.handler())
await idle.run('NOTIFY')
await boss.stop({ graceful: false })
await client.query('drop schema pgboss cascade')
await client.end()
process.exit(0)
