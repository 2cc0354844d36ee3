"""How fast carbon dioxide in the air rises: weekly measurements in, yearly means and trends out.

`fog run co2.py co2.csv` prints a line for each decade and one for all years; the means of the years
come back as out/years.csv.
"""

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path


def read(path: str) -> dict[int, dict[int, list[float]]]:
    """Return the measurements in ppm by year and month; weeks without one are left out."""
    found: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    with Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["co2"]:
                found[int(row["date"][:4])][int(row["date"][4:6])].append(float(row["co2"]))
    return found


def main() -> int:
    """Read the table that the first argument names."""
    if len(sys.argv) != 2:
        sys.exit("usage: co2.py TABLE.csv")
    weeks = read(sys.argv[1])
    # A year counts whole: the season moves the value by more than three years of rise.
    years = {
        year: statistics.fmean(statistics.fmean(month) for month in months.values())
        for year, months in sorted(weeks.items())
        if len(months) == 12
    }
    out = Path("out")
    out.mkdir(exist_ok=True)
    with (out / "years.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["year", "ppm"])
        table.writerows((year, f"{mean:.2f}") for year, mean in years.items())

    decades = defaultdict(dict)
    for year, mean in years.items():
        decades[f"{year // 10 * 10}s"][year] = mean
    for name, means in [*decades.items(), ("all", years)]:
        if len(means) > 2:
            slope, _ = statistics.linear_regression(list(means), list(means.values()))
            print(f"{name:6}{statistics.fmean(means.values()):8.2f} ppm  {slope:+.2f} ppm a year")
    swing = statistics.fmean(
        max(means) - min(means)
        for months in weeks.values()
        if len(means := [statistics.fmean(month) for month in months.values()]) == 12
    )
    print(f"{len(years)} whole years; the season moves it by {swing:.2f} ppm")
    return 0


if __name__ == "__main__":
    sys.exit(main())
