# /// task
# type = "ostler"
# id = "report"
# name = "A report"
# namespace = "demo"
# every = "5m"
# timezone = "UTC"
# retry = 3
# inputs.city = { type = "string", default = "Wien" }
# options = { city = "${{ inputs.city }}" }
# ///


async def run(city):
    return {"city": city}
