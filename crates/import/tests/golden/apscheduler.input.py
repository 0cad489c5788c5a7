"""Jobs of the shop."""
import shop.stock as stock
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from shop.mail import digest, remind as send_reminders
from datetime import datetime

scheduler = BackgroundScheduler(
    timezone="Europe/Vienna",
    job_defaults={"coalesce": True, "misfire_grace_time": 300},
)


def beat():
    print("JOBS = [not these]")


# JOBS = [{'id': 'switched-off'}]
scheduler.add_job(beat, "interval", seconds=30)
scheduler.add_job(digest, "cron", day_of_week="mon-fri", hour=6, minute=30, id="digest", name="Morning digest")
scheduler.add_job(
    stock.count, "cron", day="last", hour=22, args=["main"], kwargs={"deep": True, "mark": "${{ x }}"}, max_instances=3
)
scheduler.add_job("shop.tax:report", trigger=CronTrigger.from_crontab("0 3 1 * 0", timezone="UTC"), coalesce=False)
scheduler.add_job(send_reminders, "cron", day="1st mon,3rd mon", hour="9,15", jitter=120)
scheduler.add_job(stock.close, "date", run_date=datetime(2027, 12, 31, 23, 30))
scheduler.add_job(beat, OrTrigger([CronTrigger(hour=2), IntervalTrigger(hours=24 * 2)]), id="both")
scheduler.add_job(digest, "cron", week=53, id="weekly")
scheduler.add_job(digest, "interval", minutes=MINUTES, kwargs=options(), id="unknown")


@scheduler.scheduled_job("interval", hours=6, start_date="2027-01-01 00:00:00", misfire_grace_time=None)
def refresh():
    pass


@celery.task(bind=True)
def unrelated(self):
    pass


class Config:
    JOBS = [
        {
            "id": "export",
            "func": "shop.export:run",
            "trigger": "cron",
            "hour": "*/4",
            "day_of_week": "0-4",
            "replace_existing": True,
        },
        {"id": "old", "func": "shop.old:run", "trigger": {"type": "interval", "hours": 1}, "next_run_time": None},
    ]
