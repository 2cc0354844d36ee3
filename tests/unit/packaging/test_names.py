from __future__ import annotations

from pathlib import Path

import names


def write(crates: Path, place: str, text: str) -> None:
    path = crates / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_name_of_two_things_that_modules_show_is_told_with_both_places(tmp_path: Path) -> None:
    write(tmp_path, "betanet-mix/src/a.rs", "pub struct Plan;\npub enum Role { One }\n")
    write(tmp_path, "betanet-node/src/b/c.rs", "pub(super) type Plan = u8;\n")

    (line,) = names.doubles(tmp_path)

    assert "Plan" in line
    assert line.endswith("betanet-mix/src/a.rs, betanet-node/src/b/c.rs")


def test_name_that_only_its_own_module_sees_may_be_used_again(tmp_path: Path) -> None:
    write(tmp_path, "betanet-mix/src/a.rs", "pub struct Plan;\n")
    write(tmp_path, "betanet-mix/src/b.rs", "struct Plan;\nmod tests {\n    pub struct Plan;\n}\n")
    write(tmp_path, "betanet-py/src/plan.rs", "pub(crate) struct Plan;\n")

    assert names.doubles(tmp_path) == []


def test_crates_have_one_thing_for_each_name() -> None:
    assert names.main() == 0
