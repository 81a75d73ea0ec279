"""Tables as shops and Excel write them, CSV and workbooks: the cells of the one column that has the pictures."""
