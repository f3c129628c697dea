"""What a trained vocabulary does with words, texts and files.

Read in this order:

- ``vocabulary`` — pieces with probabilities, and what can be asked of them
- ``encoding`` — from a text to token ids and back, losing nothing
- ``tokenizer_json`` — the file, in Hugging Face's format
- ``counting`` — word counts of files of any size
- ``peers`` — words segmented as BPE, WordPiece and Unigram do
"""
