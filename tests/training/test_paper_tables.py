"""The paper's tables are of recipes, changed in fields that they have."""

from pixelrnn import recipes
from pixelrnn.training.paper_tables import all_paper_tables


def test_each_table_is_of_recipes_with_settings_that_they_have():
    for name, table in all_paper_tables().items():
        assert table.name == name
        assert len({row.name for row in table.rows}) == len(table.rows) >= 3
        assert len({row.changed().data for row in table.rows}) == 1
        for row in table.rows:
            config = row.changed().model
            for key, value in row.settings.items():
                assert str(getattr(config, key)).lower() == value
    mnist = all_paper_tables()["mnist"].rows
    assert (
        [row.paper for row in mnist] == [recipes()[row.recipe].paper for row in mnist] == [81.30, 80.54, 80.75, 79.20]
    )
    connections = [
        (row.changed().model.residual, row.changed().model.skip) for row in all_paper_tables()["connections"].rows
    ]
    assert len(set(connections)) == 4
