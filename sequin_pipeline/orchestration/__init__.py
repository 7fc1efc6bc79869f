"""This room holds everything that knows Dagster: the component, assets, checks, schedules, sensors, executor and IO manager."""
