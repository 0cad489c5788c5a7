// pg-boss woken by NOTIFY, in batches of 500 and fetching on while batches are full, as its documentation advises.
import { database, isWorker, latency, load, postgres, rates, scale, sizes, worker } from './common.mjs'

const { PgBoss } = load('pg-boss')
const boss = new PgBoss({ connectionString: postgres, useListenNotify: true, migrate: !isWorker })
boss.on('error', error => { console.error(error.message) })

if (isWorker) {
  await boss.start()
  const options = { batchSize: 500, localConcurrency: 2, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 }
  await worker(done => boss.work('noop', options, async jobs => done(jobs.length)))
} else await measure()

async function measure () {
  const client = await database()
  await client.query('drop schema if exists pgboss cascade')
  await boss.start()
  await boss.createQueue('noop', { notify: true })
  await boss.createQueue('late', { notify: true })
  const enqueue = async jobs => {
    for (let left = jobs; left > 0; left -= 1000) {
      await boss.insert('noop', Array.from({ length: Math.min(1000, left) }, () => ({ data: {} })))
    }
  }
  const sql = "select 1 from pgboss.job where name = 'noop' and state < 'completed' limit 1"
  const open = async () => (await client.query(sql)).rowCount
  const how = '2 workers, batches of 500, burst; finished jobs are kept'
  await sizes(enqueue, open, how)
  await client.query('truncate pgboss.job')
  await rates(Math.round(50_000 * scale), enqueue, open, 'insert of 1000', how)

  const idle = latency(() => boss.send('late', {}))
  await boss.work('late', { batchSize: 1 }, async () => idle.handler())
  await idle.run('NOTIFY')
  await boss.stop({ graceful: false })
  await client.query('drop schema pgboss cascade')
  await client.end()
  process.exit(0)
}
