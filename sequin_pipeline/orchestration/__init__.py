"""Everything that knows Dagster stands here: the component, assets, checks, schedules, sensors, executor and IO manager."""
