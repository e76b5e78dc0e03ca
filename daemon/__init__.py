"""The asyncio daemon that schedules models and serves the HTTP APIs."""
