"""A whole fog whose state is in Postgres, behind a password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.integration.fogs import START_S, RunningFog, until
from tests.postgres import LOCKED, PASSWORD, PrivatePostgres

WORDCOUNT = Path(__file__).resolve().parents[2] / "examples/wordcount/wordcount.wasm"


@pytest.mark.slow
def test_a_fog_keeps_its_state_in_postgres_and_outlives_its_death(
    postgres: PrivatePostgres, tmp_path: Path
) -> None:
    """INV-STORE-03, INV-STORE-07."""
    secret = quote(PASSWORD, safe="")
    with postgres.database() as plain:
        url = plain.replace("fog@", f"{LOCKED}:{secret}@")
        fog = RunningFog(tmp_path / "home", environment={"FOG_DATABASE_URL": url})
        try:
            backend = fog.pid("backend")
            text = tmp_path / "text"
            text.write_text("one two two", "utf-8")
            first = fog.run("run", WORDCOUNT, "--stdin", text)
            assert first.returncode == 0, first.stderr
            assert fog.json("db", "check")["faults"] == []

            postgres.kill()
            refused = fog.run("run", WORDCOUNT, "--stdin", text)
            assert refused.returncode != 0
            assert "Traceback" not in refused.stderr
            postgres.start()

            def runs() -> bool:
                return fog.run("run", WORDCOUNT, "--stdin", text).stdout == first.stdout

            until(runs, START_S, lambda: "tasks are not run again")
            assert fog.pid("backend") == backend
            assert len(fog.json("task", "ls")) >= 2

            assert not list((fog.home / "daemon").glob("fog.db*"))
            assert not (fog.home / "daemon" / "blobs").exists()
            for process in fog.processes():
                assert secret not in " ".join(process.cmdline())
                if process.pid not in (fog.process.pid, backend):
                    assert "FOG_DATABASE_URL" not in process.environ()
            said = refused.stderr + refused.stdout + fog.log.read_text("utf-8")
            said += "".join(log.read_text("utf-8") for log in (fog.home / "logs").glob("*"))
            assert not [word for word in (secret, PASSWORD) if word in said]
        finally:
            fog.stop()
    assert psutil.pid_exists(backend) is False
