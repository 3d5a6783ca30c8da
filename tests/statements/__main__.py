"""Write the rendered statements: ``python -m tests.statements``."""

from tests.statements.render import FOLDER, files

rendered = files()
for path in set(FOLDER.glob("*.sql")) - set(rendered) - {FOLDER / "sample.sql"}:
    path.unlink()
for path, content in rendered.items():
    path.write_text(content, encoding="utf-8")
